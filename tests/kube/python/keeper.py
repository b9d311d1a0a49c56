"""A small operator: it notes who made an environment and what was changed, and holds its end back until it said farewell."""

import os

import kopf
from kubernetes import client

ENVIRONMENTS = ("hangar.dev", "v1alpha1", "environments")
SERVER = os.environ["SERVER"]


@kopf.on.login()
def login(**_):
    return kopf.ConnectionInfo(server=SERVER)


@kopf.on.startup()
def quietly(settings, **_):
    settings.peering.standalone = True


@kopf.on.create(*ENVIRONMENTS)
def made(spec, patch, **_):
    patch.metadata.annotations["operator.example/made-for"] = spec["owner"]
    # kopf writes it into the status, which is hangar's own: it is left out, and the handler is done all the same.
    return {"noted": True}


@kopf.on.update(*ENVIRONMENTS, field="spec.env")
def changed(new, patch, **_):
    patch.metadata.annotations["operator.example/changed"] = str((new or {}).get("A"))


# That there is such a handler has kopf put a finalizer on every environment.
@kopf.on.delete(*ENVIRONMENTS)
def farewell(name, namespace, **_):
    settings = client.Configuration()
    settings.host = SERVER
    body = {"metadata": {"name": f"farewell-{name}"}, "data": {"said": "yes"}}
    client.CoreV1Api(client.ApiClient(settings)).create_namespaced_config_map(namespace, body)
