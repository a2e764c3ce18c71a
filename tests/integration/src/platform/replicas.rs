//! The processes of the services: more of them, killed, put to sleep, started again.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Platform, Ports, Replica, Service};
use crate::process::Crash;

impl Platform {
    /// The first process of a service.
    pub fn replica(&mut self, service: Service) -> &mut Replica {
        self.replicas.iter_mut().find(|replica| replica.service == service).expect("every service has a process")
    }

    /// Every process of a service.
    pub fn replicas(&mut self, service: Service) -> impl Iterator<Item = &mut Replica> {
        self.replicas.iter_mut().filter(move |replica| replica.service == service)
    }

    /// Kills every process of a service at once.
    ///
    /// # Errors
    /// The signal can't be sent.
    pub fn crash_all(&mut self, service: Service) -> Result<()> {
        self.replicas(service).try_for_each(|replica| replica.process().crash())
    }

    /// Starts every process of a service again after they have ended.
    ///
    /// # Errors
    /// One can't be started.
    pub fn start_all_again(&mut self, service: Service) -> Result<()> {
        let (programs, leash) = (self.setup.programs.clone(), self.setup.leash.clone());
        self.replicas(service).try_for_each(|replica| replica.start_again(&programs, &leash, Crash::Never))
    }

    /// Starts every process of a service but the first again after they have ended.
    ///
    /// # Errors
    /// One can't be started.
    pub fn start_others_again(&mut self, service: Service) -> Result<()> {
        let (programs, leash) = (self.setup.programs.clone(), self.setup.leash.clone());
        self.replicas(service).skip(1).try_for_each(|replica| replica.start_again(&programs, &leash, Crash::Never))
    }

    /// Kills a service's first process at once.
    ///
    /// # Errors
    /// The signal can't be sent.
    pub fn crash(&mut self, service: Service) -> Result<()> {
        self.crash_one(service, 0)
    }

    /// Starts a service's first process again and waits until it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_again(&mut self, service: Service) -> Result<()> {
        self.start_one_again(service, 0).await
    }

    /// Kills one process of a service, counted from 0 in the order of their first start.
    ///
    /// # Errors
    /// The signal can't be sent.
    pub fn crash_one(&mut self, service: Service, number: usize) -> Result<()> {
        self.numbered(service, number)?.process().crash()
    }

    /// Starts that process again and waits until it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_one_again(&mut self, service: Service, number: usize) -> Result<()> {
        let (programs, leash) = (self.setup.programs.clone(), self.setup.leash.clone());
        let replica = self.numbered(service, number)?;
        replica.start_again(&programs, &leash, Crash::Never)?;
        replica.wait_until_ready().await
    }

    fn numbered(&mut self, service: Service, number: usize) -> Result<&mut Replica> {
        self.replicas(service).nth(number).with_context(|| format!("{} has no process {number}", service.name()))
    }

    /// Starts a service's first process again after it has ended, to die or to sleep at a crash point. It may be dead before it
    /// is ready.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start_again_to_fail(&mut self, service: Service, crash: Crash<'_>) -> Result<()> {
        let (programs, leash) = (self.setup.programs.clone(), self.setup.leash.clone());
        self.replica(service).start_again(&programs, &leash, crash)
    }

    /// Starts a second process of a service on free ports, and waits until it is ready. Answers its URL.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn add_replica(&mut self, service: Service) -> Result<String> {
        let ports = Ports::free()?;
        let suffix = format!("-{}", self.replicas.len());
        let configuration = self.write_configuration(service, ports, &suffix)?;
        self.start_replica_with(service, ports, configuration, &suffix)?;
        let replica = self.replicas.last_mut().expect("one was just added");
        replica.wait_until_ready().await?;
        if let Some(balancer) = self.balancers.get(&service) {
            balancer.add(ports.address());
        }
        Ok(ports.url())
    }

    pub(super) fn start_replica_with(
        &mut self,
        service: Service,
        ports: Ports,
        configuration: PathBuf,
        suffix: &str,
    ) -> Result<()> {
        let log = self.folder.path().join(format!("logs/{}{suffix}.log", service.name()));
        let replica = Replica::start(service, ports, &self.setup.programs, configuration, log, &self.setup.leash)?;
        self.replicas.push(replica);
        Ok(())
    }
}
