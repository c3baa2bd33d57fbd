package oscal

import "time"

// What follows is the part of the OSCAL 1.2.1 models that is written here. (pages.nist.gov/OSCAL-Reference/models/v1.2.1)

type metadata struct {
	Title        string             `json:"title"`
	LastModified string             `json:"last-modified"`
	Version      string             `json:"version"`
	OSCAL        string             `json:"oscal-version"`
	Roles        []role             `json:"roles,omitempty"`
	Parties      []party            `json:"parties,omitempty"`
	Responsible  []responsibleParty `json:"responsible-parties,omitempty"`
	Props        []prop             `json:"props,omitempty"`
}

type role struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

type party struct {
	UUID string `json:"uuid"`
	Type string `json:"type"`
	Name string `json:"name"`
}

type responsibleParty struct {
	Role    string   `json:"role-id"`
	Parties []string `json:"party-uuids"`
}

type prop struct {
	Name  string `json:"name"`
	NS    string `json:"ns,omitempty"`
	Value string `json:"value"`
}

type link struct {
	Href     string `json:"href"`
	Rel      string `json:"rel,omitempty"`
	Fragment string `json:"resource-fragment,omitempty"`
	Text     string `json:"text,omitempty"`
}

type resource struct {
	UUID    string  `json:"uuid"`
	Title   string  `json:"title"`
	Remarks string  `json:"remarks,omitempty"`
	Rlinks  []rlink `json:"rlinks"`
}

type rlink struct {
	Href string `json:"href"`
}

type backMatter struct {
	Resources []resource `json:"resources"`
}

type catalogDoc struct {
	UUID       string      `json:"uuid"`
	Metadata   metadata    `json:"metadata"`
	Controls   []controlOf `json:"controls"`
	BackMatter backMatter  `json:"back-matter"`
}

type controlOf struct {
	ID    string `json:"id"`
	Class string `json:"class"`
	Title string `json:"title"`
	Props []prop `json:"props"`
	Links []link `json:"links,omitempty"`
	Parts []part `json:"parts"`
}

type part struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Prose string `json:"prose"`
}

type profileDoc struct {
	UUID     string          `json:"uuid"`
	Metadata metadata        `json:"metadata"`
	Imports  []profileImport `json:"imports"`
	Merge    merge           `json:"merge"`
}

type profileImport struct {
	Href    string    `json:"href"`
	Include *struct{} `json:"include-all"`
}

type merge struct {
	AsIs bool `json:"as-is"`
}

type componentsDoc struct {
	UUID       string             `json:"uuid"`
	Metadata   metadata           `json:"metadata"`
	Components []definedComponent `json:"components"`
}

type definedComponent struct {
	UUID            string                  `json:"uuid"`
	Type            string                  `json:"type"`
	Title           string                  `json:"title"`
	Description     string                  `json:"description"`
	Implementations []controlImplementation `json:"control-implementations"`
}

type controlImplementation struct {
	UUID         string        `json:"uuid"`
	Source       string        `json:"source"`
	Description  string        `json:"description"`
	Requirements []requirement `json:"implemented-requirements"`
}

type requirement struct {
	UUID         string        `json:"uuid"`
	Control      string        `json:"control-id"`
	Description  string        `json:"description,omitempty"`
	ByComponents []byComponent `json:"by-components,omitempty"`
}

type byComponent struct {
	Component   string `json:"component-uuid"`
	UUID        string `json:"uuid"`
	Description string `json:"description"`
}

type planDoc struct { // system security plan
	UUID            string           `json:"uuid"`
	Metadata        metadata         `json:"metadata"`
	ImportProfile   href             `json:"import-profile"`
	Characteristics characteristics  `json:"system-characteristics"`
	Implementation  implementation   `json:"system-implementation"`
	Controls        planRequirements `json:"control-implementation"`
}

type href struct {
	Href string `json:"href"`
}

type characteristics struct {
	IDs         []systemID  `json:"system-ids"`
	Name        string      `json:"system-name"`
	Description string      `json:"description"`
	Information information `json:"system-information"`
	Status      stateOf     `json:"status"`
	Boundary    described   `json:"authorization-boundary"`
}

type systemID struct {
	ID string `json:"id"`
}

type information struct {
	Types []informationType `json:"information-types"`
}

type informationType struct {
	UUID        string `json:"uuid"`
	Title       string `json:"title"`
	Description string `json:"description"`
}

type stateOf struct {
	State string `json:"state"`
}

type described struct {
	Description string `json:"description"`
}

type implementation struct {
	Users      []user            `json:"users"`
	Components []systemComponent `json:"components"`
}

type user struct {
	UUID  string   `json:"uuid"`
	Title string   `json:"title"`
	Roles []string `json:"role-ids"`
}

type systemComponent struct {
	UUID        string  `json:"uuid"`
	Type        string  `json:"type"`
	Title       string  `json:"title"`
	Description string  `json:"description"`
	Props       []prop  `json:"props,omitempty"`
	Status      stateOf `json:"status"`
}

type planRequirements struct {
	Description  string        `json:"description"`
	Requirements []requirement `json:"implemented-requirements"`
}

type assessmentPlanDoc struct {
	UUID      string   `json:"uuid"`
	Metadata  metadata `json:"metadata"`
	ImportSSP href     `json:"import-ssp"`
	Reviewed  reviewed `json:"reviewed-controls"`
	Subjects  []chosen `json:"assessment-subjects"`
	Assets    assets   `json:"assessment-assets"`
	Tasks     []task   `json:"tasks"`
}

type reviewed struct {
	Selections []selection `json:"control-selections"`
}

type selection struct {
	All     *struct{} `json:"include-all,omitempty"`
	Include []chosenC `json:"include-controls,omitempty"`
}

type chosenC struct {
	Control string `json:"control-id"`
}

type chosen struct {
	Type string    `json:"type"`
	All  *struct{} `json:"include-all"`
}

type assets struct {
	Components []systemComponent `json:"components"`
	Platforms  []platform        `json:"assessment-platforms"`
}

type platform struct {
	UUID  string `json:"uuid"`
	Title string `json:"title"`
	Uses  []uses `json:"uses-components"`
}

type uses struct {
	Component string `json:"component-uuid"`
}

type task struct {
	UUID        string `json:"uuid"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
}

type resultsDoc struct {
	UUID     string   `json:"uuid"`
	Metadata metadata `json:"metadata"`
	ImportAP href     `json:"import-ap"`
	Results  []result `json:"results"`
}

type result struct {
	UUID         string        `json:"uuid"`
	Title        string        `json:"title"`
	Description  string        `json:"description"`
	Start        string        `json:"start"`
	End          string        `json:"end"`
	Props        []prop        `json:"props,omitempty"`
	Reviewed     reviewed      `json:"reviewed-controls"`
	Observations []observation `json:"observations,omitempty"`
	Risks        []risk        `json:"risks,omitempty"`
	Findings     []finding     `json:"findings,omitempty"`
}

type observation struct {
	UUID        string     `json:"uuid"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Props       []prop     `json:"props,omitempty"`
	Methods     []string   `json:"methods"`
	Types       []string   `json:"types"`
	Origins     []origin   `json:"origins"`
	Subjects    []subject  `json:"subjects,omitempty"`
	Evidence    []evidence `json:"relevant-evidence,omitempty"`
	Collected   string     `json:"collected"`
}

type origin struct {
	Actors []actor `json:"actors"`
}

type actor struct {
	Type string `json:"type"`
	UUID string `json:"actor-uuid"`
}

type subject struct {
	UUID  string `json:"subject-uuid"`
	Type  string `json:"type"`
	Title string `json:"title"`
}

type evidence struct {
	Description string `json:"description"`
	Props       []prop `json:"props,omitempty"`
}

type risk struct {
	UUID         string    `json:"uuid"`
	Title        string    `json:"title"`
	Description  string    `json:"description"`
	Statement    string    `json:"statement"`
	Props        []prop    `json:"props,omitempty"`
	Status       string    `json:"status"`
	Origins      []origin  `json:"origins"`
	Deadline     string    `json:"deadline,omitempty"`
	Observations []related `json:"related-observations,omitempty"`
}

type finding struct {
	UUID         string        `json:"uuid"`
	Title        string        `json:"title"`
	Description  string        `json:"description"`
	Props        []prop        `json:"props"`
	Target       target        `json:"target"`
	Observations []related     `json:"related-observations"`
	Risks        []relatedRisk `json:"related-risks,omitempty"`
}

type target struct {
	Type   string `json:"type"`
	ID     string `json:"target-id"`
	Status status `json:"status"`
}

type status struct {
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Remarks string `json:"remarks,omitempty"`
}

type related struct {
	UUID string `json:"observation-uuid"`
}

type relatedRisk struct {
	UUID string `json:"risk-uuid"`
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
