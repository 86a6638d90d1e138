"""hello: a driver of one's own, in a language of one's own: ZeroMQ and JSON are all it needs (docs/protocol.md).

python docs/examples/hello.py &            # of the stack whose run directory is $DOCKYARD_RUN
dockyard job hello --env who=you
"""

import json
import os

import zmq

ME = {"name": "greeter"}


def send(kind, header, body=None):
    socket.send_multipart([b"DY1", kind, json.dumps(header).encode(), json.dumps(body).encode()])


def register():
    send(b"REGISTER", ME, {"names": ["hello"], "pid": os.getpid()})
    send(b"READY", ME)


socket = zmq.Context().socket(zmq.DEALER)
socket.connect(f"ipc://{os.environ.get('DOCKYARD_RUN', '/run/dockyard')}/engine.sock")
register()
while True:
    if not socket.poll(1000):  # milliseconds
        send(b"HEARTBEAT", ME)
        continue
    magic, kind, header, body = socket.recv_multipart()
    if kind == b"REGISTER":  # the engine was restarted
        register()
    elif kind == b"RESULT":  # the name is another's
        raise SystemExit(json.loads(body)["message"])
    elif kind == b"JOB":
        job, header = json.loads(body), json.loads(header)
        answer = {"id": header["id"], "name": header["name"]}
        send(b"STATUS", answer, {"stream": "stderr", "text": "a greeting is under way\n"})
        send(b"RESULT", answer, f"hello, {job.get('who', 'world')}")
