// A real OpenID provider. Reads {key, cert, jwk, certificate, secret} from standard input: the server's key and certificate, the public key of
// a client that signs assertions, the certificate of one that shows it, the secret of the others. Prints one line of JSON when it listens.
import { createServer } from 'node:https';
import { X509Certificate } from 'node:crypto';
import { Provider, errors } from 'oidc-provider';

let text = '';
for await (const piece of process.stdin) text += piece;
const given = JSON.parse(text);

const server = createServer({ key: given.key, cert: given.cert, requestCert: true, rejectUnauthorized: false });
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const url = `https://127.0.0.1:${server.address().port}`;

const certificate = new X509Certificate(given.certificate);
const client = (client_id, token_endpoint_auth_method, more = {}) => ({
  client_id, token_endpoint_auth_method, grant_types: ['client_credentials'], redirect_uris: [], response_types: [], ...more,
});
const provider = new Provider(url, {
  clients: [
    client('basic client/1', 'client_secret_basic', { client_secret: given.secret }),
    client('post', 'client_secret_post', { client_secret: given.secret }),
    client('signs', 'private_key_jwt', { jwks: { keys: [given.jwk] } }),
    client('shows', 'self_signed_tls_client_auth', {
      jwks: { keys: [{ ...certificate.publicKey.export({ format: 'jwk' }), x5c: [certificate.raw.toString('base64')] }] },
    }),
    client('app', 'client_secret_basic', {
      client_secret: given.secret, grant_types: ['authorization_code', 'refresh_token'], redirect_uris: ['https://app.example/back'], response_types: ['code'],
    }),
  ],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'self_signed_tls_client_auth'],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    revocation: { enabled: true, allowedPolicy: () => true },
    introspection: { enabled: true, allowedPolicy: () => true },
    mTLS: { enabled: true, selfSignedTlsClientAuth: true, getCertificate: (ctx) => ctx.req.socket.getPeerX509Certificate() },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo: (_, resource) => {
        if (resource !== 'https://api.example/') throw new errors.InvalidTarget();
        return { scope: 'read write', audience: resource, accessTokenTTL: 300, accessTokenFormat: 'opaque' };
      },
    },
  },
  scopes: ['openid', 'offline_access', 'read', 'write'],
  rotateRefreshToken: true,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: { AccessToken: 3600, ClientCredentials: 600, Grant: 86400, RefreshToken: 86400 },
});

// What a person's consent would have left behind.
async function authorized() {
  const app = await provider.Client.find('app');
  const grant = new provider.Grant({ accountId: 'somebody', clientId: 'app' });
  grant.addOIDCScope('openid offline_access');
  const grantId = await grant.save();
  const token = new provider.RefreshToken({
    accountId: 'somebody', client: app, grantId, gty: 'authorization_code', scope: 'openid offline_access', authTime: Math.floor(Date.now() / 1000),
    claims: {}, sessionUid: undefined, expiresWithSession: false, rotations: 0,
  });
  return token.save();
}

server.on('request', provider.callback());
console.log(JSON.stringify({ url, refresh: [await authorized(), await authorized(), await authorized()] }));
