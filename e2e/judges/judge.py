"""Has validators that are not ours look at files: judge.py oscal FOLDER | cyclonedx FILE | ocsf FILE. Exit status 0: they take all of it."""
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile

KINDS = ["catalog", "profile", "component-definition", "system-security-plan", "assessment-plan", "assessment-results"]


def oscal(folder):
    """compliance-trestle imports every file into a workspace, validates the workspace, and resolves the profile into its catalog."""
    from trestle.cli import Trestle
    from trestle.core.profile_resolver import ProfileResolver
    work = pathlib.Path(tempfile.mkdtemp())
    here = os.getcwd()
    os.chdir(work)
    try:
        def trestle(*words):
            sys.argv = ["trestle", *map(str, words)]
            status = Trestle().run()
            if status != 0:
                raise SystemExit(f"trestle {' '.join(map(str, words))}: status {status}")
        trestle("init", "--local")
        for kind in KINDS:  # it looks for what a file imports from the workspace's root
            shutil.copy(folder / f"{kind}.json", work)
        for kind in KINDS:
            trestle("import", "-f", folder / f"{kind}.json", "-o", "reeve")
        trestle("validate", "--all")
        profile = json.loads((folder / "profile.json").read_text())
        profile["profile"]["imports"][0]["href"] = "trestle://catalogs/reeve/catalog.json"
        there = work / "profiles" / "reeve" / "profile.json"
        there.write_text(json.dumps(profile))
        catalog = ProfileResolver.get_resolved_profile_catalog(work, there)
        ids = {c.id for c in catalog.controls or []}
        want = {c["id"] for c in json.loads((folder / "catalog.json").read_text())["catalog"]["controls"]}
        if ids != want:
            raise SystemExit(f"the profile resolves to {sorted(ids)}, not {sorted(want)}")
    finally:
        os.chdir(here)
        shutil.rmtree(work)


def cyclonedx(file):
    """cyclonedx-python-lib's strict validator for CycloneDX 1.7."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    problem = JsonStrictValidator(SchemaVersion.V1_7).validate_str(file.read_text())
    if problem:
        raise SystemExit(str(problem)[:2000])


def changed(classes, changes):
    """The schema classes of the version that changes start from, with the attributes that changes add. What they do not name stays as it was, so
    that an event with anything else that is new is refused."""
    def attribute(of, profile=None):
        made = {"caption": of.get("object", of.get("type")), "requirement": of["requirement"], "is_array": of.get("array", False)}
        made |= {"type": "object_t", "object_type": of["object"]} if "object" in of else {"type": of["type"]}
        if "enum" in of:
            made["enum"] = {str(value): {} for value in of["enum"]}
        if profile:
            made["profiles"] = [profile]
        return made
    for profile, added in changes["profiles"].items():
        for name in added["classes"]:
            for key, of in added["attributes"].items():
                classes["classes"][name]["attributes"][key] = attribute(of, profile)
    for name, added in changes["objects"].items():
        there = classes["objects"].setdefault(name, {"caption": name, "name": name, "attributes": {}})
        there["attributes"] |= {key: attribute(of) for key, of in added["attributes"].items()}
        if "constraints" in added:
            there["constraints"] = added["constraints"]
    classes["version"] = changes["version"]
    return classes


def classes_of(version):
    """ocsf-json-schema's classes of a version, or, of a version that it does not have, those of the file that says what that version changed."""
    from ocsf_json_schema import get_ocsf_schema
    changes = pathlib.Path(__file__).parent / f"ocsf-{version}.json"
    if not changes.exists():
        return get_ocsf_schema(version=version)
    changes = json.loads(changes.read_text())
    return changed(get_ocsf_schema(version=changes["base"]), changes)


def attested(event):
    """The event's fingerprint is the SHA-256 of its RFC 8785 form without the fingerprint, computed here again."""
    claimed = event["attestation"].pop("fingerprint")
    if (claimed["algorithm_id"], claimed["encoding_id"], claimed["serialization_id"]) != (3, 1, 2):
        return "attestation/fingerprint: not SHA-256, hexadecimal, of RFC 8785"
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if hashlib.sha256(text.encode()).hexdigest() != claimed["value"]:
        return "attestation/fingerprint: of another event"


def ocsf(file):
    """ocsf-json-schema's classes of the version that each event names, with constraints and what ocsf-VERSION.json adds; and its fingerprint."""
    import jsonschema
    from ocsf_json_schema.embedded import OcsfJsonSchemaEmbedded
    schemas, checked = {}, 0
    for number, line in enumerate(file.read_text().splitlines(), 1):
        event = json.loads(line)
        key = event["metadata"]["version"], event["class_uid"], tuple(event["metadata"].get("profiles", []))
        if key not in schemas:
            made = OcsfJsonSchemaEmbedded(classes_of(key[0]))
            name = made.lookup_class_name_from_uid(key[1])
            schemas[key] = jsonschema.Draft202012Validator(made.get_class_schema(name, profiles=list(key[2])))
        problems = [f"{'/'.join(map(str, p.absolute_path))}: {p.message}" for p in schemas[key].iter_errors(event)]
        if not problems and "attestation" in event:
            problems = [p for p in [attested(event)] if p]
        if problems:
            raise SystemExit(f"line {number}: " + "; ".join(problems)[:2000])
        checked += 1
    if not checked:
        raise SystemExit("there is nothing to judge")
    print(checked, "events,", len({key[1] for key in schemas}), "classes")


{"oscal": oscal, "cyclonedx": cyclonedx, "ocsf": ocsf}[sys.argv[1]](pathlib.Path(sys.argv[2]).resolve())
