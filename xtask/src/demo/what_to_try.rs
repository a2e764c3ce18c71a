//! What to paste while everything is up: each line works as it stands, in a shell of its own.

use anyhow::Result;
use muster_integration_tests::main_job::scene::path;
use muster_integration_tests::main_job::{Scene, documents};

/// The lines.
///
/// # Errors
/// A document can't be written.
pub fn lines(scene: &Scene) -> Result<String> {
    let programs = std::env::current_exe()?;
    let programs = programs.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let config = scene.platform.context_file();
    let token = scene.platform.token_file();
    let ca = scene.platform.pki().ca();
    let scheduler = scene.platform.addresses().scheduler.replace("https://", "");
    let kubeconfig = &scene.platform.cluster("train-idc")?.kubeconfig;
    let job = scene.write("try/job.yaml", &documents::job("try-me", "train-queue", "endless", 2, 8))?;
    let gang = scene.write("try/gang.yaml", &documents::job("too-wide", "train-queue", "endless", 12, 8))?;
    let careless = scene.write("try/careless.yaml", &documents::careless_job("careless"))?;
    Ok(format!(
        "Everything is up. Ctrl-C ends it. To try, in another shell:

  export PATH={programs}:$PATH MUSTER_CONFIG={config}

  # the fleet
  muster get clusters
  muster describe cluster train-idc

  # a job runs; a gang past the queue's capability waits, and is told why; a careless one is refused
  muster submit -f {job}
  muster submit -f {gang}
  muster explain too-wide -n ml
  muster submit -f {careless}
  muster policy check -f {careless}
  muster get jobs -n ml
  muster cost --by queue

  # releases
  muster get releases -n kurator-system
  muster rollout status resnet50-serving -n kurator-system

  # what happens, as it happens (Ctrl-C ends it)
  muster events -w

  # the wire: reflection needs no token, everything else does
  grpcurl -cacert {ca} {scheduler} list
  grpcurl -cacert {ca} -H \"authorization: Bearer $(cat {token})\" -d '{{\"parent\": \"namespaces/ml\"}}' \\
    {scheduler} muster.scheduler.v1.JobService/ListJobs

  # a member cluster, as its own people see it
  kubectl --kubeconfig {kubeconfig} get pods -A
",
        config = config.display(),
        job = path(&job)?,
        gang = path(&gang)?,
        careless = path(&careless)?,
        ca = ca.display(),
        token = token.display(),
        kubeconfig = kubeconfig.display(),
    ))
}
