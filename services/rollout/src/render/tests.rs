//! Overlays of the shape users have through the real kustomize, and what must not be rendered.

use super::*;
use crate::git::testing::Repository;
use serde_json::Value;
use std::time::Duration;

const FILES: [(&str, &str); 8] = [
    ("models/detector/version.yaml", "version: v2\ndigest: sha256:aaaa\n"),
    ("models/detector/artifact-uri.txt", "s3://models/detector/v2\n"),
    (
        "models/detector/kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configMapGenerator:
  - name: detector-model
    files: [version.yaml, uri=artifact-uri.txt]
images:
  - name: registry.example.com/detector
    newTag: v2
",
    ),
    (
        "serving/detector/base/deployment.yaml",
        "apiVersion: apps/v1
kind: Deployment
metadata: {name: detector}
spec:
  replicas: 3
  selector: {matchLabels: {app: detector}}
  template:
    metadata: {labels: {app: detector}}
    spec:
      containers:
        - name: server
          image: registry.example.com/detector
          env:
            - name: MODEL_URI
              valueFrom: {configMapKeyRef: {name: detector-model, key: uri}}
",
    ),
    (
        "serving/detector/base/kustomization.yaml",
        "namespace: vision\nresources: [deployment.yaml]\ncomponents: [../../../models/detector]\n",
    ),
    ("serving/detector/overlays/edge/kustomization.yaml", "resources: [../../base]\nreplicas: [{name: detector, count: 1}]\n"),
    (
        "plain/b.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n",
    ),
    ("plain/a.json", "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"a\"}}\n"),
];

fn renderer() -> Renderer {
    let program = Kustomize::default_program();
    assert!(program.exists(), "kustomize is missing at {}; cargo xtask test builds it", program.display());
    Renderer::new(Kustomize::new(program, Duration::from_secs(30)))
}

async fn render_of(files: &[(&str, &str)], path: &str) -> Result<Rendered, RenderError> {
    let repository = Repository::with(files).await;
    let (_folder, mirror) = repository.mirror().await;
    let head = mirror.resolve("main").await.unwrap().id;
    renderer().render(&mirror, &head, path).await
}

fn names(rendered: &Rendered) -> Vec<&str> {
    rendered.objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_overlay_renders_with_its_base_and_its_model() {
    let rendered = render_of(&FILES, "serving/detector/overlays/edge").await.unwrap();
    let deployment = rendered.objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert_eq!(deployment["metadata"]["namespace"], "vision");
    assert_eq!(deployment["spec"]["replicas"], 1);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example.com/detector:v2");
    let named = container["env"][0]["valueFrom"]["configMapKeyRef"]["name"].as_str().unwrap();
    assert!(names(&rendered).contains(&named), "{named} is generated: {:?}", names(&rendered));
    assert_eq!(rendered.paths, ["models/detector", "serving/detector/base", "serving/detector/overlays/edge"]);
}

#[tokio::test]
async fn a_folder_without_a_kustomization_is_its_manifests() {
    let rendered = render_of(&FILES, "plain").await.unwrap();
    assert_eq!(names(&rendered), ["a", "b", "c"]);
    assert_eq!(names(&render_of(&FILES, "plain/b.yaml").await.unwrap()), ["b", "c"]);
}

#[tokio::test]
async fn an_unrelated_commit_renders_from_memory_and_a_new_model_does_not() {
    let repository = Repository::with(&FILES).await;
    let (_folder, mirror) = repository.mirror().await;
    let renderer = renderer();
    let path = "serving/detector/overlays/edge";
    let first = mirror.resolve("main").await.unwrap().id;
    let before = renderer.render(&mirror, &first, path).await.unwrap();
    let unrelated = repository.commit("unrelated", &[("docs/a.md", "a\n")]).await;
    mirror.resolve(&unrelated).await.unwrap();
    let same = renderer.render(&mirror, &unrelated, path).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&before.objects, &same.objects));
    let model = repository.commit("v3", &[("models/detector/artifact-uri.txt", "s3://models/detector/v3\n")]).await;
    mirror.resolve(&model).await.unwrap();
    let after = renderer.render(&mirror, &model, path).await.unwrap();
    assert_ne!(before.digest, after.digest, "the committed file is part of what the overlays render");
}

#[tokio::test]
async fn nothing_is_fetched_and_nothing_is_run() {
    let cases = [
        ("resources: ['https://example.com/all.yaml']\n", "outside of the repository"),
        ("resources: ['git@example.com:a/b.git']\n", "outside of the repository"),
        ("resources: ['github.com/example/repo//folder?ref=v1']\n", "does not exist"),
        ("resources: [../../../../etc/passwd]\n", "out of the repository"),
        ("resources: [/etc/passwd]\n", "out of the repository"),
        ("resources: [none.yaml]\n", "does not exist"),
        ("resources: [../../plain]\n", "without a kustomization"),
        ("configMapGenerator: [{name: a, files: ['k=https://example.com/f']}]\n", "outside of the repository"),
        ("helmCharts: [{name: a}]\n", "helmCharts"),
        ("generators: [gen.yaml]\n", "generators"),
        ("patches: [{path: ../secret.yaml}]\n", "does not exist"),
        ("resources: [\n", "line"),
    ];
    for (kustomization, expected) in cases {
        let mut files = FILES.to_vec();
        files.push(("apps/bad/kustomization.yaml", kustomization));
        let error = render_of(&files, "apps/bad").await.expect_err(kustomization).to_string();
        assert!(error.contains(expected) && error.contains("apps/bad"), "{kustomization}: {error}");
        assert!(!error.contains("/tmp"), "no path of the machine is shown: {error}");
    }
}

#[tokio::test]
async fn an_overlay_that_does_not_render_says_so_in_kustomizes_words() {
    let mut files = FILES.to_vec();
    files.push(("apps/bad/kustomization.yaml", "resources: [a.yaml]\npatches: [{path: p.yaml}]\n"));
    files.push(("apps/bad/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"));
    files.push(("apps/bad/p.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: other}\n"));
    let error = render_of(&files, "apps/bad").await.unwrap_err();
    let RenderError::Kustomize { path, message } = &error else { panic!("{error}") };
    assert_eq!(path, "apps/bad");
    assert!(message.contains("no matches for") && !message.contains("/tmp"), "{message}");
    assert!(!error.is_temporary());
}

#[tokio::test]
async fn what_is_not_there_or_not_a_manifest_is_named() {
    let error = render_of(&FILES, "nowhere").await.unwrap_err();
    assert!(matches!(error, RenderError::Git(GitError::NoSuchPath { .. })), "{error}");
    let error = render_of(&[("a/x.yaml", "kind: ConfigMap\napiVersion: v1\n")], "a").await.unwrap_err();
    assert!(matches!(&error, RenderError::Malformed { file, .. } if file == "a/x.yaml"), "{error}");
    let error = render_of(&[("a/x.yaml", "a: [b\n")], "a").await.unwrap_err();
    assert!(matches!(&error, RenderError::Malformed { file, .. } if file == "a/x.yaml"), "{error}");
    let error = render_of(&[("a/readme.md", "nothing\n")], "a").await.unwrap_err();
    assert_eq!(error, RenderError::Empty("a".into()), "an application is not pruned down to nothing by a slip");
}

#[tokio::test]
async fn without_kustomize_it_is_tried_again_later() {
    let repository = Repository::with(&FILES).await;
    let (_folder, mirror) = repository.mirror().await;
    let head = mirror.resolve("main").await.unwrap().id;
    let missing = Renderer::new(Kustomize::new("/nonexistent/kustomize", Duration::from_secs(1)));
    let error = missing.render(&mirror, &head, "serving/detector/base").await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert!(missing.render(&mirror, &head, "plain").await.is_ok());
}

#[tokio::test]
async fn the_users_overlay_with_routes_composes() {
    let mut files = FILES.to_vec();
    files.push(("serving/detector/overlays/online/kustomization.yaml", "resources: [../../base, service.yaml, routes.yaml]\n"));
    files.push((
        "serving/detector/overlays/online/service.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: detector, namespace: vision}\nspec: {selector: {app: detector}}\n",
    ));
    files.push((
        "serving/detector/overlays/online/routes.yaml",
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: detector, namespace: vision}
spec:
  hosts: [detector]
  http: [{route: [{destination: {host: detector, subset: v2}, weight: 100}]}]
",
    ));
    let rendered = render_of(&files, "serving/detector/overlays/online").await.unwrap();
    let wanted = crate::domain::traffic::Wanted { rendered: &rendered.objects, traffic: None, stable: None, weight: 100 };
    let composed = crate::domain::traffic::compose(wanted).unwrap();
    let configured: Vec<&Value> = composed.objects.iter().filter(|object| object["kind"] == "ConfigMap").collect();
    assert_eq!(configured.len(), 1);
    let name = configured[0]["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("detector-model-") && name.matches('-').count() == 2, "kustomize's hash is enough: {name}");
    assert_eq!(composed.copies[0].version, "v2");
}
