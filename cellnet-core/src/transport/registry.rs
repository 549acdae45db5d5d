//! Which driver serves which scheme.

use std::{collections::BTreeMap, sync::Arc};

use super::{Bind, Connection, Listener, Target, Transport, TransportError};
use crate::url::{CellUrl, Scheme};

/// Scheme → driver. Built by hand and owned by a cell.
#[derive(Debug, Clone, Default)]
pub struct Transports {
    drivers: BTreeMap<Scheme, Arc<dyn Transport>>,
}

/// A scheme was taken twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two transports serve the scheme '{0}'")]
pub struct RegistryError(Scheme);

impl Transports {
    /// Adds a driver for all its schemes.
    pub fn add(&mut self, driver: impl Transport) -> Result<(), RegistryError> {
        if let Some(taken) = driver.schemes().iter().find(|scheme| self.drivers.contains_key(scheme)) {
            return Err(RegistryError(taken.clone()));
        }
        let driver: Arc<dyn Transport> = Arc::new(driver);
        for scheme in driver.schemes() {
            self.drivers.insert(scheme.clone(), driver.clone());
        }
        Ok(())
    }

    /// [`add`](Self::add) as a link in a chain.
    pub fn with(mut self, driver: impl Transport) -> Result<Self, RegistryError> {
        self.add(driver)?;
        Ok(self)
    }

    /// The schemes that have a driver, in order.
    pub fn schemes(&self) -> impl Iterator<Item = &Scheme> {
        self.drivers.keys()
    }

    /// The driver for a URL, or an error that names what could be used.
    pub fn driver(&self, url: &CellUrl) -> Result<&Arc<dyn Transport>, TransportError> {
        self.drivers.get(url.scheme()).ok_or_else(|| TransportError::UnknownScheme {
            scheme: url.scheme().to_string(),
            url: url.to_string(),
            known: self.schemes().map(Scheme::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// Connects by the URL's scheme.
    pub async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        self.driver(&target.url)?.connect(target).await
    }

    /// Listens by the URL's scheme.
    pub async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        self.driver(&bind.url)?.listen(bind).await
    }
}
