"""The official client reads the log of the machine of `alice`, runs commands in it and reaches a port: `pods.py SERVER HOME`."""

import sys

from kubernetes import client, watch
from kubernetes.stream import portforward, stream


def runs(core):
    def run(script, **options):
        return stream(
            core.connect_get_namespaced_pod_exec,
            "alice",
            "default",
            command=["sh", "-c", script],
            stdout=True,
            stderr=True,
            tty=False,
            **options,
        )

    # The two outputs come in no particular order.
    assert sorted(run("echo out; echo err >&2", stdin=False).splitlines()) == ["err", "out"]

    talk = run("read word; echo got $word; echo bad >&2; exit 3", stdin=True, _preload_content=False)
    talk.write_stdin("hello\n")
    talk.run_forever(timeout=60)
    assert talk.read_stdout() == "got hello\n" and talk.read_stderr() == "bad\n"
    assert talk.returncode == 3, talk.returncode


def forwards(core):
    forward = portforward(core.connect_get_namespaced_pod_portforward, "alice", "default", ports="8080")
    socket = forward.socket(8080)
    socket.setblocking(True)
    body = b"y" * 300_000
    head = f"POST /echo HTTP/1.1\r\nHost: alice\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    socket.sendall(head.encode() + body)
    answer = b""
    while piece := socket.recv(65536):
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(body), answer[:200]
    assert forward.error(8080) is None, forward.error(8080)


def main(url, _home):
    settings = client.Configuration()
    settings.host = url
    core = client.CoreV1Api(client.ApiClient(settings))
    watcher = watch.Watch()
    for event in watcher.stream(core.list_namespaced_pod, "default", field_selector="metadata.name=alice"):
        if ("Ready", "True") in [(it.type, it.status) for it in event["object"].status.conditions or []]:
            watcher.stop()
    pod = core.read_namespaced_pod("alice", "default")
    assert pod.status.phase == "Running" and pod.spec.containers[0].name == "main", pod
    assert "up" in core.read_namespaced_pod_log("alice", "default", container="main").splitlines()
    runs(core)
    forwards(core)
    print("all of it")


main(*sys.argv[1:])
