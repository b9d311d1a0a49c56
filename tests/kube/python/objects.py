"""The official client writes, reads and watches environments: `objects.py SERVER HOME`. What is not as Kubernetes has it ends it."""

import datetime
import sys

from kubernetes import client, dynamic, watch

GROUP, VERSION, PLURAL = "hangar.dev", "v1alpha1", "environments"
HERE = (GROUP, VERSION, "default", PLURAL)


def environment(name, **labels):
    """Of a template that is not there: nothing is made for it, so that it goes at once."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Environment",
        "metadata": {"name": name, "labels": labels},
        "spec": {"templateRef": {"name": "nowhere"}, "owner": "a@example.com"},
    }


def refused(code, reason, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except client.ApiException as refusal:
        assert refusal.status == code and f'"reason":"{reason}"' in refusal.body.replace(" ", ""), refusal
        return
    raise AssertionError(f"it was not refused with {code}")


def discovery(server):
    groups = client.ApisApi(server).get_api_versions().groups
    assert GROUP in [group.name for group in groups], groups
    assert "v1" in client.CoreApi(server).get_api_versions().versions
    resources = client.CustomObjectsApi(server).get_api_resources(GROUP, VERSION).resources
    found = next(it for it in resources if it.name == PLURAL)
    assert found.namespaced and found.kind == "Environment" and "watch" in found.verbs, found
    assert client.VersionApi(server).get_code().git_version.startswith("v1.")
    definitions = client.ApiextensionsV1Api(server).list_custom_resource_definition().items
    assert f"{PLURAL}.{GROUP}" in [it.metadata.name for it in definitions]


def changes(objects):
    made = objects.create_namespaced_custom_object(*HERE, environment("one", team="a"))
    assert made["metadata"]["uid"] and made["metadata"]["generation"] == 1, made
    refused(409, "AlreadyExists", objects.create_namespaced_custom_object, *HERE, environment("one"))
    refused(404, "NotFound", objects.get_namespaced_custom_object, *HERE, "nobody")
    wrong = environment("wrong")
    wrong["spec"]["operatingMode"] = "Sideways"
    refused(422, "Invalid", objects.create_namespaced_custom_object, *HERE, wrong)

    patched = objects.patch_namespaced_custom_object(*HERE, "one", {"metadata": {"labels": {"team": "b"}}})
    assert patched["metadata"]["labels"] == {"team": "b"}, patched
    operations = [{"op": "add", "path": "/spec/env", "value": {"A": "1"}}]
    patched = objects.patch_namespaced_custom_object(
        *HERE, "one", operations, _content_type="application/json-patch+json"
    )
    assert patched["spec"]["env"] == {"A": "1"} and patched["metadata"]["generation"] == 2, patched
    tried = objects.patch_namespaced_custom_object(*HERE, "one", {"spec": {"env": {"A": "2"}}}, dry_run="All")
    assert tried["spec"]["env"] == {"A": "2"}
    current = objects.get_namespaced_custom_object(*HERE, "one")
    assert current["spec"]["env"] == {"A": "1"}, current

    stale = {**current, "metadata": {**current["metadata"], "resourceVersion": made["metadata"]["resourceVersion"]}}
    refused(409, "Conflict", objects.replace_namespaced_custom_object, *HERE, "one", stale)
    # The controller writes the status between a read and a write; whoever has it as it is now may replace it.
    while True:
        current = objects.get_namespaced_custom_object(*HERE, "one")
        current["spec"]["env"] = {"B": "2"}
        try:
            replaced = objects.replace_namespaced_custom_object(*HERE, "one", current)
            break
        except client.ApiException as refusal:
            assert refusal.status == 409, refusal
    assert replaced["spec"]["env"] == {"B": "2"}, replaced


def lists(objects):
    for number in range(5):
        objects.create_namespaced_custom_object(*HERE, environment(f"listed-{number}", row="yes"))
    names, more = [], None
    while more != "":
        page = objects.list_namespaced_custom_object(*HERE, label_selector="row=yes", limit=2, _continue=more)
        assert len(page["items"]) <= 2 and page["kind"] == "EnvironmentList", page
        names += [it["metadata"]["name"] for it in page["items"]]
        more = page["metadata"].get("continue", "")
    assert names == [f"listed-{number}" for number in range(5)], names
    one = objects.list_namespaced_custom_object(*HERE, field_selector="metadata.name=listed-3")["items"]
    assert [it["metadata"]["name"] for it in one] == ["listed-3"]
    everywhere = objects.list_cluster_custom_object(GROUP, VERSION, PLURAL, label_selector="row=yes")["items"]
    assert len(everywhere) == 5
    objects.delete_collection_namespaced_custom_object(*HERE, label_selector="row=yes")


def watches(objects):
    """Each change is told live, and a watch that was stopped goes on where it was."""
    position = objects.list_namespaced_custom_object(*HERE)["metadata"]["resourceVersion"]
    objects.create_namespaced_custom_object(*HERE, environment("seen", step="0"))

    def steps(position, *expected):
        """Yields the position whenever the next of what is expected was told, and ends with the last."""
        watcher, expected = watch.Watch(), list(expected)
        called = objects.list_namespaced_custom_object
        for event in watcher.stream(called, *HERE, resource_version=position, field_selector="metadata.name=seen"):
            found = event["object"]["metadata"]
            if (event["type"], found["labels"]["step"]) == expected[0]:
                del expected[0]
                if not expected:
                    watcher.stop()
                yield found["resourceVersion"]
        assert not expected, f"the watch ended before {expected}"

    def mark(step):
        objects.patch_namespaced_custom_object(*HERE, "seen", {"metadata": {"labels": {"step": step}}})

    told = steps(position, ("ADDED", "0"), ("MODIFIED", "1"))
    next(told)
    mark("1")
    (position,) = told
    # While nobody looks.
    mark("2")
    told = steps(position, ("MODIFIED", "2"), ("DELETED", "2"))
    next(told)
    objects.delete_namespaced_custom_object(*HERE, "seen")
    assert len(list(told)) == 1


def by_discovery(server, home):
    """The dynamic client finds the kind by itself."""
    found = dynamic.DynamicClient(server, cache_file=f"{home}/discovery.json").resources.get(
        api_version=f"{GROUP}/{VERSION}", kind="Environment"
    )
    made = found.create(body=environment("found"), namespace="default")
    assert made.metadata.uid == found.get(name="found", namespace="default").metadata.uid
    merge = "application/merge-patch+json"
    body = {"metadata": {"name": "found", "annotations": {"a.example/b": "c"}}}
    patched = found.patch(body=body, namespace="default", content_type=merge)
    assert patched.metadata.annotations["a.example/b"] == "c"
    assert "found" in [it.metadata.name for it in found.get(namespace="default").items]
    status = found.status.get(name="found", namespace="default")
    assert status.kind == "Environment"
    found.delete(name="found", namespace="default")


def events(server, objects):
    """Events are written in both groups, and read of the object that they are about."""
    regarding = objects.get_namespaced_custom_object(*HERE, "one")
    core, later = client.CoreV1Api(server), client.EventsV1Api(server)
    about = client.V1ObjectReference(
        api_version=regarding["apiVersion"],
        kind=regarding["kind"],
        name="one",
        namespace="default",
        uid=regarding["metadata"]["uid"],
    )
    meta = client.V1ObjectMeta(name="one.first", namespace="default")
    core.create_namespaced_event(
        "default",
        client.CoreV1Event(
            involved_object=about,
            metadata=meta,
            reason="Tried",
            message="said",
            type="Normal",
            event_time=datetime.datetime.now(datetime.timezone.utc),
        ),
    )
    selector = "involvedObject.name=one,involvedObject.kind=Environment,reason=Tried"
    told = core.list_namespaced_event("default", field_selector=selector).items
    assert [it.message for it in told] == ["said"], told
    assert "said" in [it.note for it in later.list_namespaced_event("default").items]


def kinds_of_kubernetes(server):
    core = client.CoreV1Api(server)
    core.create_namespace({"metadata": {"name": "team-a"}})
    assert core.read_namespace("team-a").status.phase == "Active"
    core.create_namespaced_config_map("team-a", {"metadata": {"name": "settings"}, "data": {"a": "b"}})
    assert core.read_namespaced_config_map("settings", "team-a").data == {"a": "b"}
    core.create_namespaced_secret("team-a", {"metadata": {"name": "hidden"}, "stringData": {"a": "b"}})
    review = {"spec": {"resourceAttributes": {"verb": "get", "group": GROUP, "resource": PLURAL}}}
    answer = client.AuthorizationV1Api(server).create_self_subject_access_review(review)
    assert answer.status.allowed, answer
    core.delete_namespace("team-a")


def main(url, home):
    settings = client.Configuration()
    settings.host = url
    server = client.ApiClient(settings)
    objects = client.CustomObjectsApi(server)
    discovery(server)
    changes(objects)
    lists(objects)
    watches(objects)
    by_discovery(server, home)
    events(server, objects)
    kinds_of_kubernetes(server)
    objects.delete_namespaced_custom_object(*HERE, "one")
    print("all of it")


main(*sys.argv[1:])
