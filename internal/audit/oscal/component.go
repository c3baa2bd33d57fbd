package oscal

// process is one of the four, and what each does for a control. A control that none names is the auditor's to judge alone.
type process struct {
	name, title, does string
	controls          map[string]string
}

func processes() []process {
	return []process{
		{"reeve-gateway", "Gateway", "Routes requests of workloads and holds no secret of what they are sent to.", map[string]string{
			"RV-02": "It refuses statements in which one person or key holds two of the three roles for a gateway, a credential or a business unit.",
			"RV-05": "It has no code that reads or opens a credential: its imports show that. A drill takes it over and counts what it found.",
		}},
		{"reeve-custodian", "Custodian", "Holds, fetches and mints credentials, decides each use by its own copy of the signed policy, and writes the ledger first.", map[string]string{
			"RV-01": "It refuses a credential that has no live lifecycle owner, from the instant at which he and his deputies are none.",
			"RV-02": "It refuses statements in which one person or key holds two of the three roles for a gateway, a credential or a business unit.",
			"RV-03": "It refuses statements that give one person both roles, and opens secrets for nobody.",
			"RV-04": "An owner whose attestation has run out is none any more.",
			"RV-05": "It puts a secret into the request after the gateway, and cuts an answer that holds it.",
			"RV-06": "It verifies the workload's own proof, whatever the gateway says.",
			"RV-07": "Every use is decided by the signed policy in force, whose hash stands in the entry.",
			"RV-08": "The intent is durable before the secret is fetched.",
			"RV-09": "It signs checkpoints of its ledger, and stops using secrets when they are not cosigned in time.",
			"RV-10": "It asks for the shortest life that a provider gives, and ends a version at the limit of its record.",
			"RV-12": "Each entry has a fingerprint of the secret, keyed by the custodian.",
			"RV-14": "It tries a revoked secret at its provider, twice, and writes what came of it.",
			"RV-17": "It counts distinct credentials and denials of each workload, and freezes it above its ceiling.",
			"RV-20": "Each entry has the business unit and the tenant that the statements give its workload.",
			"RV-21": "It takes a token from the issuers that the charter names for that workload, with its exact audience and subject.",
			"RV-22": "It opens nothing by itself: a break-glass record has two people and an end.",
		}},
		{"reeve-authority", "Authority", "Publishes what owners signed, issues tokens to workloads, and carries revocations. It has no path to a secret.", map[string]string{
			"RV-01": "It warns before an owner's attestation runs out.",
			"RV-03": "It can publish nothing that the owners did not sign.",
			"RV-21": "Its tokens live for minutes, name their audience, and never raise a level.",
			"RV-22": "It takes a break-glass record that two people signed, and asks for its review.",
		}},
		{"reeve-auditor", "Auditor", "Follows, verifies and cosigns every ledger, and judges the controls from it. It can permit nothing.", map[string]string{
			"RV-09": "It cosigns a ledger only as far as it has fetched, verified and stored it, with a key of another domain.",
			"RV-11": "Its index says what was granted and not used.",
			"RV-13": "It knows from the entries who acted and by what proof.",
			"RV-15": "It has the results of drills with their time.",
			"RV-16": "It holds what providers report against the ledgers.",
			"RV-18": "Its register has the gateways of others, with what they can do and whose they are.",
			"RV-19": "It holds what was found in configurations against the register.",
		}},
	}
}

func (w *writer) components() *componentsDoc {
	d := &componentsDoc{Metadata: w.about("reeve's processes and the controls that they implement")}
	for _, p := range processes() {
		x := definedComponent{UUID: id("component", p.name), Type: "software", Title: p.title, Description: p.does}
		i := controlImplementation{UUID: id("implementation", p.name), Source: CatalogFile, Description: "What " + p.name + " does for each control."}
		for _, c := range w.ids() {
			if does := p.controls[c]; does != "" {
				i.Requirements = append(i.Requirements, requirement{UUID: id("requirement", p.name, c), Control: c, Description: does})
			}
		}
		x.Implementations = []controlImplementation{i}
		d.Components = append(d.Components, x)
	}
	return d
}

// plan is the system security plan: the estate, with the four processes.
func (w *writer) plan() *planDoc {
	d := &planDoc{Metadata: w.about("The estate " + w.in.Estate), ImportProfile: href{ProfileFile}, Characteristics: characteristics{
		IDs: []systemID{{w.in.Estate}}, Name: w.in.Estate, Description: "AI gateways, the custodians of the credentials that they use, and the processes that govern and audit them.",
		Information: information{[]informationType{{id("information", w.in.Estate), "Credentials of models, tools and APIs", "What agents and applications use of others, and what they send there."}}},
		Status:      stateOf{"operational"},
		Boundary:    described{"The processes of the estate, from the workloads' requests to the origins that its custody statements pin. The origins are outside."},
	}, Controls: planRequirements{Description: "Each control is implemented by the processes below and judged by the auditor from live data."}}
	d.Implementation.Users = []user{{id("user", "owner"), "Owners", []string{"owner"}}}
	by := map[string][]byComponent{}
	for _, p := range processes() {
		component := id("system-component", w.in.Estate, p.name)
		d.Implementation.Components = append(d.Implementation.Components, systemComponent{UUID: component, Type: "software", Title: p.title, Description: p.does, Status: stateOf{"operational"}})
		for _, c := range w.ids() {
			if does := p.controls[c]; does != "" {
				by[c] = append(by[c], byComponent{component, id("by-component", p.name, c), does})
			}
		}
	}
	for _, c := range w.ids() {
		d.Controls.Requirements = append(d.Controls.Requirements, requirement{UUID: id("plan-requirement", c), Control: c, ByComponents: by[c]})
	}
	return d
}
