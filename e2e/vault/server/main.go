// Server is a Vault for tests: the real core and the real HTTP API, storage in memory, unsealed, TLS on a loopback port. It prints one line of
// JSON, {"url": …, "token": …}, and ends when its standard input does.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/database"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	cert, key := flag.String("cert", "", "certificate of the listener, PEM"), flag.String("key", "", "its key, PEM")
	flag.Parse()
	if err := run(*cert, *key); err != nil {
		log.Fatal(err)
	}
}

func run(cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	logger := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Error})
	store, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: store, DisableMlock: true, Logger: logger, BuiltinRegistry: builtin{},
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory, "database": database.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory, "jwt": jwt.Factory, "kubernetes": kubernetes.Factory},
		AuditBackends:      map[string]audit.Factory{"file": audit.NewFileBackend},
	})
	if err != nil {
		return err
	}
	ctx := context.Background()
	init, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig:  &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
		RecoveryConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
	})
	if err != nil {
		return err
	}
	if open, err := core.Unseal(init.SecretShares[0]); err != nil || !open {
		return fmt.Errorf("unseal: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"url": "https://" + listener.Addr().String(), "token": init.RootToken}); err != nil {
		return err
	}
	err = server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}}))
	if err == http.ErrServerClosed {
		return core.Shutdown()
	}
	return err
}

// builtin is the one database that leases are for; the core asks for its other parts elsewhere.
type builtin struct{}

const plugin = "postgresql-database-plugin"

func (builtin) Contains(name string, kind consts.PluginType) bool {
	return name == plugin && kind == consts.PluginTypeDatabase
}

func (b builtin) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	return postgresql.New, b.Contains(name, kind)
}

func (builtin) Keys(kind consts.PluginType) []string {
	if kind == consts.PluginTypeDatabase {
		return []string{plugin}
	}
	return nil
}

func (b builtin) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, kind)
}

func (builtin) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
