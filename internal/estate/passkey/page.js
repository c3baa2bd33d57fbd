"use strict";
// Asks the browser for a signature by one of the signer's passkeys, or for a new passkey and its first signature, and hands it to reeve.

const button = document.querySelector("button");
const state = document.getElementById("state");

const bytes = (hex) => Uint8Array.from(hex.match(/../g) || [], (pair) => parseInt(pair, 16));
const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));

const page = document.body.dataset;
const challenge = bytes(page.challenge);
const credentials = page.credentials.split(" ").filter(Boolean).map((id) => ({ type: "public-key", id: bytes(id) }));

async function create() {
  const made = await navigator.credentials.create({ publicKey: {
    challenge,
    rp: { id: "localhost", name: "reeve" },
    user: { id: bytes(page.user), name: page.person, displayName: page.person },
    pubKeyCredParams: [{ type: "public-key", alg: -7 }, { type: "public-key", alg: -8 }],
    authenticatorSelection: { userVerification: "required", residentKey: "discouraged" },
    excludeCredentials: credentials,
    attestation: "none",
  } });
  return { id: made.rawId, public: made.response.getPublicKey() };
}

async function sign(allowed) {
  const made = await navigator.credentials.get({ publicKey: {
    challenge,
    rpId: "localhost",
    allowCredentials: allowed,
    userVerification: "required",
  } });
  return {
    id: base64(made.rawId),
    authenticator_data: base64(made.response.authenticatorData),
    client_data: base64(made.response.clientDataJSON),
    signature: base64(made.response.signature),
  };
}

async function answer() {
  if (page.create !== "true") {
    return sign(credentials);
  }
  const made = await create();
  state.textContent = "Made. Now it signs once, to show that it can.";
  const signed = await sign([{ type: "public-key", id: made.id }]);
  return { ...signed, public: base64(made.public) };
}

button.addEventListener("click", async () => {
  button.disabled = true;
  state.textContent = "Follow what your browser asks.";
  try {
    const reply = await fetch("answer", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(await answer()) });
    if (!reply.ok) {
      throw new Error(await reply.text());
    }
    state.textContent = "Done. You can close this page.";
  } catch (error) {
    state.textContent = "Not signed: " + error.message;
    button.disabled = false;
  }
});
