package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/verify"
)

// delivery is how a signed record is sent: the flags that commands with records share.
type delivery struct {
	authorities, auditors, gateways []string
	wait                            time.Duration
	asJSON                          bool
}

func (v *delivery) flags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&v.authorities, "authority", nil, "`URL` of an authority, in place of this directory's")
	cmd.Flags().StringSliceVar(&v.auditors, "auditor", nil, "`URL` of an auditor, in place of this directory's")
	cmd.Flags().StringSliceVar(&v.gateways, "gateway", nil, "`URL` of a gateway, in place of those that the operations statement names")
	cmd.Flags().DurationVar(&v.wait, "wait", 10*time.Second, "how long to wait for the custodians' entries")
	cmd.Flags().BoolVar(&v.asJSON, "json", false, "print JSON")
}

// prepare looks where the custodians' logs stand. Call it before a record is signed.
func (v *delivery) prepare(d *host.Dir, set *statement.Set) (*dispatch.Dispatch, error) {
	b, err := os.ReadFile(d.Trust())
	if err != nil {
		return nil, fmt.Errorf("reading the keys of the logs: %w", err)
	}
	trust, err := verify.ParseTrust(b)
	if err != nil {
		return nil, err
	}
	local := func(port int) []string { return []string{"http://" + host.Local(port)} }
	if v.authorities == nil {
		v.authorities = local(d.Run.Ports.Authority)
	}
	if v.auditors == nil {
		v.auditors = local(d.Run.Ports.Auditor)
	}
	if v.gateways == nil {
		for _, g := range set.Operations.Gateways {
			v.gateways = append(v.gateways, g.URL)
		}
	}
	o := &dispatch.Order{Trust: trust, Wait: v.wait, Logs: map[string][]fs.FS{}}
	for _, c := range set.Custody {
		for _, one := range c.Custodians {
			if !slices.Contains(o.Custodians, one.ID) {
				o.Custodians = append(o.Custodians, one.ID)
			}
		}
	}
	slices.Sort(o.Custodians)
	v.channels(d, o)
	tiles := os.DirFS(d.Join("tiles", host.Custodian))
	if heads, err := trust.Heads(tiles); err == nil {
		o.Logs[heads[0].Log.Process] = append(o.Logs[heads[0].Log.Process], tiles)
	}
	for _, id := range o.Custodians {
		for _, url := range v.auditors {
			o.Logs[id] = append(o.Logs[id], dispatch.Remote(strings.TrimSuffix(url, "/")+"/v1/logs/"+id))
		}
	}
	return dispatch.New(o), nil
}

func (v *delivery) channels(d *host.Dir, o *dispatch.Order) {
	for _, c := range []struct {
		name, path string
		urls       []string
	}{{"authority", "/v1/records", v.authorities}, {"auditor", "/v1/records", v.auditors}, {"gateway", "/v1/reeve/records", v.gateways}} {
		for _, url := range c.urls {
			o.Channels = append(o.Channels, dispatch.Post(c.name, strings.TrimSuffix(url, "/")+c.path))
		}
	}
	socket := d.Socket(host.Custodian, "admin")
	if _, err := os.Stat(socket); err == nil {
		o.Channels = append(o.Channels, dispatch.Channel{Name: "admin", To: socket, Send: func(ctx context.Context, record []byte) error {
			_, err := operator.New(socket).Accept(ctx, record)
			return err
		}})
	}
}

// send sends a signed record and prints what became of it at each custodian. The error is nil only when every custodian is known to
// have it in force.
func (v *delivery) send(cmd *cobra.Command, to *dispatch.Dispatch, set *statement.Set, env *statement.Envelope) error {
	file, err := statement.Canonical(env)
	if err != nil {
		return failed(err)
	}
	r := to.Run(cmd.Context(), env.ID(), file)
	if v.asJSON {
		err = printJSON(cmd, r)
	} else {
		err = printDispatch(cmd.OutOrStdout(), r, set)
	}
	if err != nil || r.All() {
		return err
	}
	return &exitError{exitUndecided, fmt.Errorf("not every custodian is known to have record %.16s in force", r.Record)}
}

func printDispatch(w io.Writer, r *dispatch.Report, set *statement.Set) error {
	t := table.New(w)
	terminal.Printf(t, "record %s\n\nSENT BY\tTO\tTAKEN\n", r.Record)
	for _, s := range r.Sent {
		if s.Error != "" {
			terminal.Printf(t, "%s\t%s\tno: %s\n", s.Channel, s.To, s.Error)
			continue
		}
		terminal.Printf(t, "%s\t%s\tafter %d ms\n", s.Channel, s.To, s.MS)
	}
	fmt.Fprint(t, "\nCUSTODIAN\tIN FORCE BY\tAFTER\tHEARD BY\tEVIDENCE\n")
	for _, c := range r.Custodians {
		if c.Known {
			terminal.Printf(t, "%s\t%s\t%d ms\t%s\t%s entry %d of log %s, %s\n", c.ID, c.At.Format("15:04:05.000Z"), c.MS, c.Channel, c.Entry, c.Seq, c.Log, c.Level)
			continue
		}
		terminal.Printf(t, "%s\tnot known\t\t\t%s\n", c.ID, c.Error)
	}
	if err := t.Flush(); err != nil || r.All() {
		return err
	}
	_, err := terminal.Printf(w, "\nA custodian that hears nothing stops by itself: credentials of the class high at the latest %s, all others %s after its last news.\n"+
		"Until then it may still use what was closed. On its host: reeve freeze, which needs no signature and no network.\n",
		bound(time.Duration(set.Charter.Revocation.High), 5*time.Second), bound(time.Duration(set.Charter.Revocation.Normal), 30*time.Second))
	return err
}

// bound is how old news may be for a class: what the charter says, or the default.
func bound(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}
