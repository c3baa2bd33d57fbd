package oscal

import (
	"maps"
	"slices"
)

func (w *writer) catalog() *catalogDoc {
	d := &catalogDoc{Metadata: w.about("reeve: controls of credentials that an AI gateway uses")}
	for _, f := range w.in.Catalogue.Frameworks {
		d.BackMatter.Resources = append(d.BackMatter.Resources, resource{UUID: id("framework", f.ID), Title: f.Title, Remarks: f.Note, Rlinks: []rlink{{f.Source}}})
	}
	for _, c := range w.in.Catalogue.Controls {
		x := controlOf{ID: c.ID, Class: "reeve", Title: c.Title, Props: []prop{{Name: "label", Value: c.ID}}, Parts: []part{
			{c.ID + "_smt", "statement", c.Title + "."}, {objective(c.ID), "assessment-objective", "It is not satisfied when: " + c.Fails + "."}}}
		if c.Act != "" {
			x.Parts = append(x.Parts, part{c.ID + "_gdn", "guidance", c.Act})
		}
		for _, f := range slices.Sorted(maps.Keys(c.Maps)) {
			framework, known := w.in.Catalogue.Framework(f)
			for _, to := range c.Maps[f] {
				x.Props = append(x.Props, own("framework-"+f, to)) // a name begins with a letter
				if known {
					x.Links = append(x.Links, link{Href: "#" + id("framework", f), Rel: "related", Fragment: to, Text: to + " " + framework.Titles[to]})
				}
			}
		}
		d.Controls = append(d.Controls, x)
	}
	return d
}

// objective is the id of a control's part that an assessment decides.
func objective(control string) string { return control + "_obj" }

func (w *writer) profile() *profileDoc {
	return &profileDoc{Metadata: w.about("All controls of reeve"), Imports: []profileImport{{CatalogFile, &struct{}{}}}, Merge: merge{true}}
}

func (w *writer) ids() (list []string) {
	for _, c := range w.in.Catalogue.Controls {
		list = append(list, c.ID)
	}
	return list
}
