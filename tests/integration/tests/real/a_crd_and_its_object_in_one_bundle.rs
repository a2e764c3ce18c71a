//! A definition and an object of its kind in one folder: the definition is served before the object is written.

use anyhow::{Context, Result, ensure};
use muster_integration_tests::main_job::simulation::TRAIN_CLOUD;
use serde_json::json;

use crate::{release, world};

const NAME: &str = "crd-and-object";

#[test]
fn a_crd_and_its_object_in_one_bundle() -> Result<()> {
    world::play(async |world| {
        let scene = &world.scene;
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "datasets.lab.example.com"},
            "spec": {
                "group": "lab.example.com", "scope": "Namespaced",
                "names": {"kind": "Dataset", "plural": "datasets", "singular": "dataset", "listKind": "DatasetList"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {"spec": {"type": "object", "required": ["rows"], "properties": {"rows": {"type": "integer"}}}},
                }}}],
            },
        });
        let object = json!({
            "apiVersion": "lab.example.com/v1", "kind": "Dataset", "metadata": {"name": "faces", "namespace": "lab"},
            "spec": {"rows": 12},
        });
        // The object stands first: a folder is one unordered set.
        let commit = release::commit(scene, NAME, &[object, definition]).await?;
        release::application(scene, NAME, TRAIN_CLOUD, "").await?;
        release::healthy_at(scene, NAME, &commit).await?;
        let api = &scene.platform.cluster(TRAIN_CLOUD)?.api;
        let live = api.find("/apis/lab.example.com/v1/namespaces/lab/datasets/faces").await?.context("the object is there")?;
        ensure!(live["spec"]["rows"] == 12, "{}", live["spec"]);
        Ok(())
    })
}
