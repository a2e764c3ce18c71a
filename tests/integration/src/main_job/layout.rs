//! The team's git repository: the layout that users have.
//!
//! `models/<name>/` is a kustomize component with version and artifact, `serving/<name>/{base,overlays/<target>}` what is
//! rendered, `policies/` what must hold, `fleets/` the application itself.

use super::simulation::{EDGES, SERVE_ONLINE, SERVER};

/// The digest of a version of the model: what a training would have computed.
pub fn digest(version: &str) -> String {
    use std::fmt::Write as _;
    let mut hexadecimal = String::new();
    for byte in version.bytes().cycle().take(32) {
        write!(hexadecimal, "{byte:02x}").expect("a string takes what is written");
    }
    format!("sha256:{hexadecimal}")
}

/// Where a version of the model lies.
pub fn artifact(version: &str) -> String {
    format!("s3://models/resnet50/{version}/model.onnx")
}

/// The files of the model's component at a version, which sets the tag of `image`.
pub fn model_of(image: &str, version: &str) -> Vec<(String, String)> {
    vec![
        file("models/resnet50/artifact-uri.txt", &format!("{}\n", artifact(version))),
        file("models/resnet50/version.yaml", &format!("version: {version}\ndigest: {}\n", digest(version))),
        file(
            "models/resnet50/kustomization.yaml",
            &format!(
                "# What every overlay that serves this model includes.\n\
                 apiVersion: kustomize.config.k8s.io/v1alpha1\n\
                 kind: Component\n\
                 configMapGenerator:\n  - name: resnet50-model\n    files:\n      - version.yaml\n      - artifact-uri.txt\n\
                 images:\n  - name: {image}\n    newTag: {version}\n"
            ),
        ),
    ]
}

/// The whole first tree, serving `v1`.
pub fn tree(fleet_application: &str, policy: &str) -> Vec<(String, String)> {
    let mut files = model_of(SERVER, "v1");
    files.extend(base_of(SERVER));
    let online = format!("serving/resnet50/overlays/{SERVE_ONLINE}");
    files.push(file(&format!("{online}/kustomization.yaml"), ONLINE));
    files.push(file(&format!("{online}/virtualservice.yaml"), VIRTUAL_SERVICE));
    files.push(file(&format!("{online}/destinationrule.yaml"), DESTINATION_RULE));
    for edge in EDGES {
        files.push(file(&format!("serving/resnet50/overlays/{edge}/kustomization.yaml"), EDGE));
        files.push(file(&format!("serving/resnet50/overlays/{edge}/banner.yaml"), BANNER));
    }
    files.push(file("policies/require-gpu-limits.yaml", policy));
    files.push(file("fleets/resnet50-serving-fleetapp.yaml", fleet_application));
    files
}

/// What every overlay of the model's serving starts from.
pub fn base_of(image: &str) -> Vec<(String, String)> {
    vec![
        file("serving/resnet50/base/deployment.yaml", &deployment(image)),
        file("serving/resnet50/base/service.yaml", SERVICE),
        file("serving/resnet50/base/kustomization.yaml", BASE),
    ]
}

fn file(path: &str, content: &str) -> (String, String) {
    (path.to_owned(), content.to_owned())
}

fn deployment(image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: resnet50
spec:
  replicas: 3
  selector:
    matchLabels:
      app: resnet50
  template:
    metadata:
      labels:
        app: resnet50
    spec:
      containers:
        - name: server
          image: {image}
          ports:
            - name: http
              containerPort: 8080
          env:
            - name: MODEL_URI
              valueFrom:
                configMapKeyRef:
                  name: resnet50-model
                  key: artifact-uri.txt
          resources:
            requests:
              nvidia.com/gpu: \"1\"
              cpu: \"4\"
              memory: 16Gi
            limits:
              nvidia.com/gpu: \"1\"
              cpu: \"4\"
              memory: 16Gi
"
    )
}

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: resnet50
spec:
  selector:
    app: resnet50
  ports:
    - name: http
      port: 80
      targetPort: http
";

const BASE: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: ml
resources:
  - deployment.yaml
  - service.yaml
components:
  - ../../../models/resnet50
";

const ONLINE: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../../base
  - virtualservice.yaml
  - destinationrule.yaml
";

/// As users write it: the version that serves, and the next one with the first share it is to get.
const VIRTUAL_SERVICE: &str = "apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: resnet50
  namespace: ml
spec:
  hosts:
    - resnet50.ml.svc.cluster.local
  http:
    - route:
        - destination:
            host: resnet50
            subset: v1
          weight: 90
        - destination:
            host: resnet50
            subset: v2
          weight: 10
";

const DESTINATION_RULE: &str = "apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata:
  name: resnet50
  namespace: ml
spec:
  host: resnet50
  subsets:
    - name: v1
      labels:
        version: v1
    - name: v2
      labels:
        version: v2
";

const EDGE: &str = "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - ../../base
  - banner.yaml
replicas:
  - name: resnet50
    count: 1
";

/// Something that is later removed from git.
const BANNER: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: site-banner
  namespace: ml
data:
  text: inference at the edge
";
