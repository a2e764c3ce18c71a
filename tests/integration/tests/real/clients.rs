//! Programs that others wrote, as the stories run them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use muster_integration_tests::main_job::scene::Scene;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::parts::variable;

/// Runs a command with this input to its end, which must be a good one; answers what it printed.
pub async fn run(command: Command, input: &str) -> Result<String> {
    Ok(run_aloud(command, input).await?.0)
}

/// The same; answers also what it said on its standard error.
pub async fn run_aloud(mut command: Command, input: &str) -> Result<(String, String)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let mut stdin = child.stdin.take().context("its input")?;
    let written = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(output.status.success(), "{command:?}: {}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
    // One that ends without reading has said why by its status.
    written?;
    Ok((text(&output.stdout), text(&output.stderr)))
}

/// The client in Python, with what is generated from `proto/` and where everything is.
pub async fn python(scene: &Scene, arguments: &[&str]) -> Result<String> {
    let libraries = PathBuf::from(variable("MUSTER_TEST_PYTHONPATH")?);
    let generated = generated(scene, &libraries).await?;
    let mut command = Command::new("python3");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/client.py"))
        .args(arguments)
        .env("PYTHONPATH", std::env::join_paths([&generated, &libraries])?)
        .env("CA_FILE", scene.platform.pki().ca())
        .env("TOKEN", std::fs::read_to_string(scene.platform.token_file())?.trim())
        .env("SCHEDULER", scene.platform.addresses().scheduler.trim_start_matches("https://"))
        .env("BROKERS", scene.platform.brokers());
    run(command, "").await
}

/// What `protoc -I proto` makes of every file, once a platform.
async fn generated(scene: &Scene, libraries: &Path) -> Result<PathBuf> {
    let folder = scene.platform.folder().join("generated");
    if folder.exists() {
        return Ok(folder);
    }
    std::fs::create_dir(&folder)?;
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut files = Vec::new();
    for package in std::fs::read_dir(proto.join("muster"))? {
        for file in std::fs::read_dir(package?.path().join("v1"))? {
            files.push(file?.path());
        }
    }
    let mut command = Command::new("python3");
    command
        .args(["-m", "grpc_tools.protoc", "-I"])
        .arg(&proto)
        .args(["--python_out", "--grpc_python_out"].map(|option| format!("{option}={}", folder.display())))
        .args(files)
        .env("PYTHONPATH", libraries);
    run(command, "").await?;
    Ok(folder)
}

/// Kafka's own console producer: a line each is headers, key and value, with tabs between.
pub async fn console_producer(scene: &Scene, topic: &str, lines: &str) -> Result<()> {
    let mut command = Command::new("java");
    command
        .arg("-cp")
        .arg(PathBuf::from(variable("MUSTER_TEST_KAFKA_JARS")?).join("*"))
        .args(["org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", scene.platform.brokers(), "--topic", topic])
        .args(["--property", "parse.key=true", "--property", "parse.headers=true"]);
    run(command, lines).await.map(drop)
}

/// grpcurl against a service, knowing only its reflection; the token is optional.
pub async fn grpcurl(scene: &Scene, token: Option<&str>, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(variable("MUSTER_TEST_GRPCURL")?);
    command.arg("-cacert").arg(scene.platform.pki().ca());
    if let Some(token) = token {
        command.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    command.args(arguments);
    run(command, "").await
}
