//! Who is a neighbour right now: one link per name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
};

use super::{Link, LinkConfig, LinkError};
use crate::{fqcn::Fqcn, route::Neighbours, tls::TlsMode};

/// The links of a cell by the names of their peers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    links: RwLock<Names>,
    /// Links whose peers said bye: no longer neighbours, but there until the connection ends.
    leaving: Mutex<Vec<Weak<Link>>>,
}

type Names = HashMap<Fqcn, Arc<Link>, foldhash::fast::RandomState>;

impl Table {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Link>> {
        self.read().get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        self.read().values().cloned().collect()
    }

    pub(crate) fn names(&self) -> Vec<Fqcn> {
        let mut names: Vec<_> = self.read().keys().cloned().collect();
        names.sort();
        names
    }

    /// Takes the name for `link`. Who holds it already and lives keeps it, unless it is an older link of the same
    /// process.
    ///
    /// Who proved its name is never put out by somebody who did not, or by another certificate.
    pub(super) async fn claim(&self, link: &Arc<Link>, config: &LinkConfig) -> Result<(), LinkError> {
        while let Some(holder) = self.insert_if_free(link, config.max_links)? {
            let proof = |link: &Link| (link.info.tls, link.info.peer_cn.clone());
            let proven = holder.info.tls == TlsMode::Mtls;
            let same_proof = proof(&holder) == proof(link);
            let same_process = match (&holder.cellnet, &link.cellnet) {
                (Some(old), Some(new)) => same_proof && old.instance == new.instance,
                _ => false,
            };
            let weaker = proven && !same_proof;
            if weaker || !same_process && holder.answers_within(config.probe).await {
                return Err(LinkError::NameTaken(link.peer.to_string()));
            }
            self.remove(&holder);
            holder.close(LinkError::Replaced);
        }
        Ok(())
    }

    /// Removes a link, unless a newer one has its name. Says whether it did.
    pub(super) fn remove(&self, link: &Arc<Link>) -> bool {
        let mut links = self.write();
        let held = links.get(&link.peer).is_some_and(|holder| holder.id == link.id);
        if held {
            links.remove(&link.peer);
        }
        held
    }

    /// Frees the name of a link whose peer said bye. Further byes change nothing.
    pub(crate) fn dismiss(&self, link: &Arc<Link>) {
        // Locked throughout, so that a shutdown finds the link in one of the two places.
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|link| link.strong_count() > 0);
        if self.remove(link) {
            leaving.push(Arc::downgrade(link));
        }
    }

    /// Every link that lives, of neighbours and of those who said bye.
    pub(crate) fn living(&self) -> Vec<Arc<Link>> {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut living = self.all();
        living.extend(leaving.iter().filter_map(Weak::upgrade));
        living
    }

    /// Gives who holds the name, if somebody does.
    fn insert_if_free(&self, link: &Arc<Link>, most: usize) -> Result<Option<Arc<Link>>, LinkError> {
        let mut links = self.write();
        if let Some(holder) = links.get(&link.peer).filter(|holder| !holder.end.is_cancelled()) {
            return Ok(Some(holder.clone()));
        }
        // Cells that are dialled are few, and chosen here.
        if links.len() >= most && !link.dialled {
            return Err(LinkError::TooManyLinks(most));
        }
        links.insert(link.peer.clone(), link.clone());
        Ok(None)
    }

    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.links.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Neighbours for Table {
    fn contains(&self, name: &str) -> bool {
        self.read().contains_key(name)
    }
}
