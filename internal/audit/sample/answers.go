package sample

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Answers are what the generator knows of its month because it planted it: no code that answers questions was asked. Times are exact.
type Answers struct {
	Seed    int64            `json:"seed"`
	Start   time.Time        `json:"start"`
	End     time.Time        `json:"end"`
	Entries int64            `json:"entries"`
	Logs    map[string]int64 `json:"logs"` // entries by process

	Captured string    `json:"captured"` // gateway
	From     time.Time `json:"from"`     // while it was in somebody else's hands
	To       time.Time `json:"to"`

	Used       map[string]*Used    `json:"used"`      // in the window, through the captured gateway: by "credential for unit"
	Reachable  []string            `json:"reachable"` // "credential for unit", without those used
	Excluded   []string            `json:"excluded"`  // what policy keeps from the captured gateway alone
	Denied     map[string]int64    `json:"denied"`    // in the window: by "credential for unit"
	Units      []string            `json:"units"`     // whose workloads used it in the window
	Tenants    []string            `json:"tenants"`
	Live       []string            `json:"live"`       // credentials used in the window whose secret still works
	Policy     map[string][]string `json:"policy"`     // owners at the start of the window, by unit
	Operations string              `json:"operations"` // of the captured gateway
	Lifecycle  map[string]string   `json:"lifecycle"`  // owner of a credential at the start of the window, of those used
	Since      map[string]string   `json:"since"`      // policy owner of a unit and lifecycle owner of a credential that have changed since

	Victims  []string `json:"victims"`  // workloads whose tokens were misused
	Misused  []string `json:"misused"`  // credentials, at machine speed or not
	Chainer  string   `json:"chainer"`  // the workload in whose name many credentials were used in a minute
	Chained  int      `json:"chained"`  // so many
	Prober   string   `json:"prober"`   // the workload in whose name many uses were denied
	Bait     string   `json:"bait"`     // honey credential that was tried
	BaitBy   string   `json:"bait_by"`  // workload
	Proven   string   `json:"proven"`   // credential whose revocation is proven
	Unproven string   `json:"unproven"` // and one whose is not
	Outside  string   `json:"outside"`  // credential that its provider saw more uses of than the ledgers have

	OutsideAt   time.Time `json:"outside_at"` // the hour of those uses
	OutsideUses int64     `json:"outside_uses"`

	Unused string `json:"unused"` // credential of a unit of the captured gateway that nobody ever used

	All      map[string]int64            `json:"all"` // uses by credential, of the whole month
	By       map[string]map[string]int64 `json:"by"`  // uses by credential and workload, of the whole month
	Orphaned []string                    `json:"orphaned"`
	Static   []string                    `json:"static"`
	Idle     []string                    `json:"idle"` // never used

	Workload string   `json:"workload"` // one whose reach is asked about, and what it may use now
	Can      []string `json:"can"`
	WhoCan   []string `json:"who_can"` // may use Proven by policy
	ReadBy   []string `json:"read_by"` // who can read it at the end, but for deputies

	ApprovedThen []string `json:"approved_then"` // who signed the policy that opened that at the start of the window
	ApprovedNow  []string `json:"approved_now"`  // and the one in force

	Leaving  string   `json:"leaving"` // a person about to leave, and the credentials that he owns
	Owns     []string `json:"owns"`
	Conflict string   `json:"conflict"` // who signs policy here and answers for secrets there
	Vendor   string   `json:"vendor"`
	Glass    string   `json:"glass"` // credential used by break-glass

	Drilled map[string]Drilled `json:"drilled"` // by scenario
}

// Used is what happened with one credential for one unit.
type Used struct {
	Class     string   `json:"class"`
	Uses      int64    `json:"uses"`
	Unknown   int64    `json:"unknown"`
	Workloads []string `json:"workloads"`
}

func pair(k *credential, u *unit) string { return k.id + " for " + u.id }

// add keeps a set as a sorted list.
func add(list []string, s string) []string {
	i, ok := slices.BinarySearch(list, s)
	if ok {
		return list
	}
	return slices.Insert(list, i, s)
}

// used keeps the books of a use.
func (m *month) used(t time.Time, w *workload, k *credential, gateway string, l *lease, unanswered bool) {
	m.All[k.id]++
	if m.By[k.id] == nil {
		m.By[k.id] = map[string]int64{}
	}
	m.By[k.id][w.id]++
	if k.template == "openai" {
		if m.hourly[k.id] == nil {
			m.hourly[k.id] = map[int64]int64{}
		}
		m.hourly[k.id][t.Truncate(time.Hour).Unix()]++
	}
	if gateway != m.Captured || t.Before(m.from) || !t.Before(m.to) {
		return
	}
	p := pair(k, w.unit)
	u := m.Used[p]
	if u == nil {
		u = &Used{Class: "USED-PROVEN"}
		m.Used[p] = u
	}
	if !w.pop {
		u.Class = "USED-ASSERTED"
	}
	u.Uses++
	if unanswered {
		u.Unknown++
	}
	u.Workloads = add(u.Workloads, w.id)
	m.Units, m.Tenants = add(m.Units, w.unit.id), add(m.Tenants, w.unit.tenant)
	m.Policy[w.unit.id] = m.plan.Charter.Roles.Units[w.unit.id].Policy
	m.Lifecycle[k.id] = k.owner
}

func (m *month) denied(t time.Time, w *workload, k *credential, gateway string) {
	if gateway == m.Captured && !t.Before(m.from) && t.Before(m.to) {
		m.Denied[pair(k, w.unit)]++
	}
}

// conclude fills in what can be said only at the end.
func (m *month) conclude() {
	for _, u := range m.unit {
		for _, k := range u.credentials {
			if m.All[k.id] == 0 {
				m.Idle = add(m.Idle, k.id)
			}
			if k.source == "sealed" {
				m.Static = add(m.Static, k.id)
			}
			if k.owner == lonely {
				m.Orphaned = add(m.Orphaned, k.id)
			}
			if k.owner == Leaving {
				m.Owns = add(m.Owns, k.id)
			}
			m.reach(k)
		}
	}
	for p := range m.Used {
		id, _, _ := strings.Cut(p, " ")
		if _, k := m.find(id); k.source == "sealed" && id != m.Proven {
			m.Live = add(m.Live, id)
		}
	}
	for _, w := range m.unit[20].workloads[:1] {
		m.Workload = w.id
		for _, u := range m.unit {
			for _, k := range u.credentials {
				if slices.ContainsFunc([]string{"g1", "g2", "g3"}, func(g string) bool { return m.usable(w, k, g, m.end) }) {
					m.Can = add(m.Can, k.id)
				}
			}
		}
	}
	home, proven := m.find(m.Proven)
	for _, u := range m.unit {
		for _, w := range u.workloads {
			if m.usable(w, proven, m.Captured, m.end) {
				m.WhoCan = add(m.WhoCan, w.id)
			}
		}
	}
	for _, who := range []string{"custodian:" + proven.custodian, "vendor-gateway:" + m.Vendor, // which is not probed, and serves every unit
		"person:" + proven.owner, "person:" + home.lifecycle, "person:lars", // hand it over
		"person:odin", "person:olga"} { // operate the one and the other
		m.ReadBy = add(m.ReadBy, who)
	}
	for _, p := range m.signersOf("policy-" + home.id) {
		m.ApprovedThen = add(m.ApprovedThen, p)
	}
}

// reach says what the captured gateway could have done with a credential, beyond what was done.
func (m *month) reach(k *credential) {
	for _, u := range m.unit {
		if m.Used[pair(k, u)] != nil {
			continue
		}
		open, shut := false, false
		for _, w := range u.workloads {
			open = open || m.usable(w, k, m.Captured, m.from)
			shut = shut || closedTo(m.unitOf(k), m.Captured) && k.class == "high" && !k.honey && w.unit.id == k.unit
		}
		if open {
			m.Reachable = append(m.Reachable, pair(k, u))
		} else if shut {
			m.Excluded = append(m.Excluded, pair(k, u))
		}
	}
}

func (c *company) find(id string) (*unit, *credential) {
	for _, u := range c.unit {
		for _, k := range u.credentials {
			if k.id == id {
				return u, k
			}
		}
	}
	panic(fmt.Sprintf("no credential %q", id)) // the generator's own mistake
}
