//! Which kinds the cluster serves, remembered until something changes: a definition that arrives, or a miss.

use super::ClusterError;
use kube::{Client, core::ApiResource};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long "no such group or kind" is believed; a definition that arrives clears it at once.
const MISS_BELIEVED: Duration = Duration::from_secs(2);

/// How a kind is addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindInfo {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

type Served = HashMap<String, KindInfo>;

#[derive(Default)]
pub(super) struct Kinds {
    served: Mutex<HashMap<String, (Instant, Served)>>,
}

impl Kinds {
    pub fn forget(&self) {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// By the kind's name, as in `ConfigMap`.
    pub async fn find(&self, client: &Client, api_version: &str, kind: &str) -> Result<KindInfo, ClusterError> {
        self.found(client, api_version, |served| served.get(kind), kind).await
    }

    /// By the resource's name, as in `configmaps`.
    pub async fn find_resource(&self, client: &Client, api_version: &str, resource: &str) -> Result<KindInfo, ClusterError> {
        self.found(client, api_version, |served| served.values().find(|info| info.resource.plural == resource), resource).await
    }

    async fn found(
        &self,
        client: &Client,
        api_version: &str,
        choose: impl Fn(&Served) -> Option<&KindInfo>,
        name: &str,
    ) -> Result<KindInfo, ClusterError> {
        {
            let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, kinds)) = served.get(api_version) {
                match choose(kinds) {
                    Some(info) => return Ok(info.clone()),
                    None if at.elapsed() < MISS_BELIEVED => return Err(missing(api_version, name)),
                    None => {}
                }
            }
        }
        let kinds = ask(client, api_version).await?;
        let found = choose(&kinds).cloned();
        self.served.lock().unwrap_or_else(PoisonError::into_inner).insert(api_version.to_owned(), (Instant::now(), kinds));
        found.ok_or_else(|| missing(api_version, name))
    }
}

fn missing(api_version: &str, kind: &str) -> ClusterError {
    ClusterError::NoSuchKind { api_version: api_version.to_owned(), kind: kind.to_owned() }
}

async fn ask(client: &Client, api_version: &str) -> Result<Served, ClusterError> {
    let listed = match api_version.contains('/') {
        true => client.list_api_group_resources(api_version).await,
        false => client.list_core_api_resources(api_version).await,
    };
    let listed = match listed {
        Ok(listed) => listed,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Served::new()),
        Err(error) => return Err(error.into()),
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    // A name with a slash is a subresource.
    let kinds = listed.resources.into_iter().filter(|resource| !resource.name.contains('/')).map(|resource| {
        let api = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: resource.kind.clone(),
            plural: resource.name,
        };
        (resource.kind, KindInfo { resource: api, namespaced: resource.namespaced })
    });
    Ok(kinds.collect())
}
