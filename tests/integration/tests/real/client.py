"""A pipeline in Python, with nothing of Muster but what is generated from its proto files.

submit NAME MANIFEST: submits a job over gRPC and follows its watch until it has ended; prints each state once.
publish MODE ID EVENT: publishes a training-complete event to mlops.events, `binary` or `structured` as CloudEvents say.
"""

import json
import os
import sys


def submit(name, manifest):
    import grpc
    from muster.scheduler.v1 import job_pb2, job_pb2_grpc

    with open(os.environ["CA_FILE"], "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    token = grpc.access_token_call_credentials(os.environ["TOKEN"])
    channel = grpc.secure_channel(os.environ["SCHEDULER"], grpc.composite_channel_credentials(credentials, token))
    jobs = job_pb2_grpc.JobServiceStub(channel)
    job = jobs.CreateJob(job_pb2.CreateJobRequest(parent="namespaces/lab", job_id=name, job=job_pb2.Job(manifest=manifest)), timeout=30)
    states = job_pb2.Job.State
    last = None
    for event in jobs.WatchJobs(job_pb2.WatchJobsRequest(parent="namespaces/lab"), timeout=90):
        state = event.job.state
        if event.job.name != job.name or state == last:
            continue
        last = state
        print(states.Name(state), flush=True)
        if event.job.HasField("finish_time"):
            return


def publish(mode, identity, event):
    from kafka import KafkaProducer

    attributes = {
        "specversion": "1.0",
        "id": identity,
        "source": "/pipelines/demo",
        "type": "dev.muster.model.training.completed.v1",
        "subject": event["model"],
        "datacontenttype": "application/json",
    }
    if mode == "structured":
        headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
        value = {**attributes, "data": event}
    else:
        names = {"datacontenttype": "content-type"}
        headers = [(names.get(name, "ce_" + name), value.encode()) for name, value in attributes.items()]
        value = event
    producer = KafkaProducer(bootstrap_servers=os.environ["BROKERS"])
    sent = producer.send("mlops.events", key=event["model"].encode(), value=json.dumps(value).encode(), headers=headers)
    sent.get(timeout=30)
    producer.close()


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        submit(sys.argv[2], sys.argv[3])
    else:
        publish(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
