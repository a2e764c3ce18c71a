//! What the services say of themselves over server reflection, and calls made from that alone.
//!
//! The one thing to know: every call is noted by its method's full name, with what it showed, so that in the end what was
//! found and what was walked can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};
use muster_integration_tests::clients::{Clients, Link};
use muster_integration_tests::platform::Service;
use muster_integration_tests::wire;
use prost_reflect::prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tonic::{Code, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// What a call of a method showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// It is there, and answers.
    Called,
    /// A repeated `request_id` is answered with the first answer.
    Repeated,
    /// Three pages.
    Paged,
    /// A stale etag is ABORTED.
    Staled,
}

/// The RPCs of all services.
pub struct Api {
    methods: BTreeMap<String, (Service, MethodDescriptor)>,
    shown: Mutex<BTreeSet<(String, Shown)>>,
    /// The last request of each method that was answered.
    answered: Mutex<BTreeMap<String, Value>>,
}

impl Api {
    /// Asks every service.
    pub async fn discover(clients: &Clients) -> Result<Self> {
        let mut methods = BTreeMap::new();
        for service in Service::ALL {
            for method in of_service(clients.link(service)).await.with_context(|| format!("reflection of {}", service.name()))? {
                methods.insert(method.full_name().to_owned(), (service, method));
            }
        }
        Ok(Self { methods, shown: Mutex::default(), answered: Mutex::default() })
    }

    /// Every method, by its full name.
    pub fn methods(&self) -> impl Iterator<Item = &MethodDescriptor> {
        self.methods.values().map(|(_, method)| method)
    }

    /// A method by the end of its name, as in `ClusterService.GetCluster` or, where no other has it, `GetCluster`.
    pub fn method(&self, name: &str) -> Result<&MethodDescriptor> {
        let of = |full: &str| full == name || full.strip_suffix(name).is_some_and(|before| before.ends_with('.'));
        self.methods().find(|method| of(method.full_name())).with_context(|| format!("no service has {name}"))
    }

    /// Notes what a method showed.
    pub fn note(&self, method: &MethodDescriptor, shown: Shown) {
        self.shown.lock().expect("no holder of this lock panics").insert((method.full_name().to_owned(), shown));
    }

    /// Whether a method showed it.
    pub fn has_shown(&self, method: &MethodDescriptor, shown: Shown) -> bool {
        self.shown.lock().expect("no holder of this lock panics").contains(&(method.full_name().to_owned(), shown))
    }

    /// The last request of each method that was answered.
    pub fn answered(&self) -> BTreeMap<String, Value> {
        self.answered.lock().expect("no holder of this lock panics").clone()
    }

    /// Calls a method with one message in and one out.
    pub async fn call(&self, clients: &Clients, method: &MethodDescriptor, request: &Value) -> Result<Value, Status> {
        let message = encode(method, request)?;
        let outcome = wire::unary(clients.link(self.service(method)), &path(method), message).await;
        let bytes = self.noted(method, request, outcome)?;
        decode(method.output(), &bytes)
    }

    /// Calls a method that answers with a stream.
    pub async fn open(
        &self,
        clients: &Clients,
        method: &MethodDescriptor,
        request: &Value,
    ) -> Result<Streaming<Vec<u8>>, Status> {
        let message = encode(method, request)?;
        let outcome = wire::streaming(clients.link(self.service(method)), &path(method), message).await;
        self.noted(method, request, outcome)
    }

    /// Calls a method, whatever it answers with, for the refusal that must come.
    pub async fn refusal(&self, clients: &Clients, method: &MethodDescriptor, request: &Value) -> Result<Status> {
        let outcome = if method.is_server_streaming() {
            match self.open(clients, method, request).await {
                Ok(mut stream) => stream.message().await.map(|answer| json!(answer)),
                Err(status) => Err(status),
            }
        } else {
            self.call(clients, method, request).await
        };
        match outcome {
            Ok(answer) => bail!("{} takes {request} and answers {answer}", method.full_name()),
            Err(status) => Ok(status),
        }
    }

    /// Calls a mutation twice with one `request_id`: the second answer is the first. Another request under it is refused.
    pub async fn twice(&self, clients: &Clients, method: &MethodDescriptor, request: &Value) -> Result<Value> {
        let name = method.full_name();
        let mut request = request.clone();
        request["request_id"] = json!(uuid::Uuid::new_v4().to_string());
        let first = self.call(clients, method, &request).await.with_context(|| format!("{name} {request}"))?;
        let again = self.call(clients, method, &request).await.with_context(|| format!("{name} again {request}"))?;
        let mut known = first.clone();
        // Shown once, and never again.
        if let Some(answer) = known.as_object_mut() {
            answer.remove("secret");
        }
        ensure!(again == known, "{name} again with one request_id:\n{again}\nthe first answer:\n{known}");
        self.note(method, Shown::Repeated);
        Ok(first)
    }

    fn service(&self, method: &MethodDescriptor) -> Service {
        self.methods[method.full_name()].0
    }

    fn noted<T>(&self, method: &MethodDescriptor, request: &Value, outcome: Result<T, Status>) -> Result<T, Status> {
        match &outcome {
            Ok(_) => {
                let mut answered = self.answered.lock().expect("no holder of this lock panics");
                answered.insert(method.full_name().to_owned(), request.clone());
                drop(answered);
                self.note(method, Shown::Called);
            }
            Err(status) if status.code() != Code::Unimplemented => self.note(method, Shown::Called),
            Err(_) => {}
        }
        outcome
    }
}

/// A message of a stream as JSON.
pub fn decode(descriptor: MessageDescriptor, bytes: &[u8]) -> Result<Value, Status> {
    let internal = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let message = DynamicMessage::decode(descriptor, bytes).map_err(|error| internal(&error))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| internal(&error))
}

fn encode(method: &MethodDescriptor, request: &Value) -> Result<Vec<u8>, Status> {
    let message = DynamicMessage::deserialize(method.input(), request)
        .map_err(|error| Status::internal(format!("{} is not asked {request}: {error}", method.full_name())))?;
    Ok(message.encode_to_vec())
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// The methods of every service of ours that a server reflects.
async fn of_service(link: Link) -> Result<Vec<MethodDescriptor>> {
    let MessageResponse::ListServicesResponse(listed) = ask(&link, MessageRequest::ListServices(String::new())).await? else {
        bail!("the list of services is something else");
    };
    let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    let ours: Vec<&String> = names.iter().filter(|name| !name.starts_with("grpc.")).collect();
    ensure!(!ours.is_empty(), "no service is reflected: {names:?}");
    let mut files: BTreeMap<String, FileDescriptorProto> = BTreeMap::new();
    let mut wanted: Vec<MessageRequest> = ours.iter().map(|name| MessageRequest::FileContainingSymbol((*name).clone())).collect();
    while let Some(request) = wanted.pop() {
        let MessageResponse::FileDescriptorResponse(found) = ask(&link, request.clone()).await? else {
            bail!("{request:?} is not found");
        };
        for bytes in found.file_descriptor_proto {
            let file = FileDescriptorProto::decode(bytes.as_slice())?;
            let missing = file.dependency.iter().filter(|name| !files.contains_key(*name));
            wanted.extend(missing.map(|name| MessageRequest::FileByFilename(name.clone())));
            files.insert(file.name().to_owned(), file);
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files.into_values())?;
    let mut methods = Vec::new();
    for name in ours {
        let service = pool.get_service_by_name(name).with_context(|| format!("{name} is in no file"))?;
        methods.extend(service.methods());
    }
    Ok(methods)
}

async fn ask(link: &Link, request: MessageRequest) -> Result<MessageResponse> {
    let mut client = ServerReflectionClient::new(link.clone()).max_decoding_message_size(4 << 20);
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    let ServerReflectionResponse { message_response, .. } = answers.message().await?.context("no answer")?;
    message_response.context("an empty answer")
}
