//! What a member's API server refuses, the user reads in that server's own words.

use anyhow::{Result, ensure};
use muster_proto::scheduler::v1::job::State;
use serde_json::json;

use crate::{jobs, world};

#[test]
fn the_api_servers_own_refusal_reaches_the_user() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        let mut unknown_field = jobs::batch("lab", "unknown-field", "short");
        unknown_field["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = json!("Always");
        let mut illegal_value = jobs::batch("lab", "illegal-value", "short");
        illegal_value["spec"]["template"]["spec"]["dnsPolicy"] = json!("Sometimes");
        for (name, manifest, words) in [
            (
                "unknown-field",
                unknown_field,
                ".spec.template.spec.containers[name=\"main\"].imagePullPolice: field not declared in schema",
            ),
            ("illegal-value", illegal_value, "spec.template.spec.dnsPolicy: Unsupported value: \"Sometimes\""),
        ] {
            jobs::submit(scene, &manifest, &[]).await?;
            let failed =
                jobs::until(scene, &format!("lab/jobs/{name}"), "is refused", |job| job.state() == State::Failed).await?;
            let shown = scene.muster().succeed(&["describe", "job", name, "-n", "lab"]).await?;
            ensure!(failed.reason.contains(words), "{name}: the reason is {:?}", failed.reason);
            ensure!(shown.contains(words), "muster describe says nothing of it: {shown}");
        }
        Ok(())
    })
}
