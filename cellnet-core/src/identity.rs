//! Whether a peer may have the name that it claims, by its certificate.

use std::fmt;

use crate::{fqcn::Fqcn, route::Neighbours};

/// A peer that showed a certificate and claims a name.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Claim<'a> {
    /// The name that is claimed.
    pub name: &'a Fqcn,
    /// The common name of the certificate, which its authority vouches for; empty if it has none, or several.
    pub cn: &'a str,
    /// This cell.
    pub me: &'a Fqcn,
    /// Whether this cell dialled the peer, so that its certificate was also checked against the URL's host.
    pub dialled: bool,
    /// Who has a link to this cell right now.
    pub neighbours: &'a dyn Neighbours,
}

impl<'a> Claim<'a> {
    /// A claim of a peer that connected to this cell.
    pub fn new(name: &'a Fqcn, cn: &'a str, me: &'a Fqcn, neighbours: &'a dyn Neighbours) -> Self {
        Self { name, cn, me, dialled: false, neighbours }
    }
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("name", self.name)
            .field("cn", &self.cn)
            .field("dialled", &self.dialled)
            .finish_non_exhaustive()
    }
}

/// Decides whether the owner of a certificate may have a name. Asked in every handshake in which the peer showed a
/// certificate; it must not wait.
pub trait IdentityPolicy: fmt::Debug + Send + Sync + 'static {
    /// `Err` says why not; the connection is closed and the text is logged.
    fn check(&self, claim: &Claim<'_>) -> Result<(), String>;
}

/// The rule for networks whose certificates carry the names of sites, as those of the reference's start-up kits do.
///
/// From the name, the acceptor's own name or that of a relay which is linked itself (or lies above this cell) is taken
/// off the front. What remains must be the common name, lie below it, or be `CN_TOKEN_active` or `CN_TOKEN_passive` (a
/// cell of a pipe). A cell that we dialled may also be `server`: its certificate was checked against the host of the URL.
/// Administrators (`_admin_…`) need a common name from a list.
#[derive(Debug, Clone, Default)]
pub struct CommonNamePolicy {
    admins: Vec<String>,
    lenient: bool,
}

impl CommonNamePolicy {
    /// Nobody is an administrator.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets certificates with these common names be administrators.
    pub fn with_admins(mut self, cns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.admins.extend(cns.into_iter().map(Into::into));
        self
    }

    /// Lets every certificate have every name, as the reference does, and logs a warning where the rule would refuse.
    pub fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    fn allows(&self, claim: &Claim<'_>) -> bool {
        let Claim { name, cn, .. } = *claim;
        if name.root().starts_with(ADMIN) {
            return self.admins.iter().any(|admin| admin == cn);
        }
        if claim.dialled && name.is_server() {
            return true;
        }
        let above = |front: &str| {
            front == claim.me.as_str()
                || claim.neighbours.contains(front)
                || claim.me.prefixes().any(|prefix| prefix == front)
        };
        let rest = |front: &str| name.as_str().strip_prefix(front)?.strip_prefix('.');
        let rests = name.prefixes().filter(|front| above(front)).filter_map(rest);
        std::iter::once(name.as_str()).chain(rests).any(|rest| belongs_to(rest, cn))
    }
}

/// Names of administrators begin with this.
const ADMIN: &str = "_admin_";

/// Whether a name is the common name, below it, or that of one of its pipes.
fn belongs_to(name: &str, cn: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    if cn.is_empty() {
        return false;
    }
    if name == cn || name.strip_prefix(cn).is_some_and(|rest| rest.starts_with('.')) {
        return true;
    }
    let pipe = first.strip_prefix(cn).and_then(|rest| rest.strip_prefix('_')).filter(|_| first == name);
    let token = pipe.and_then(|rest| rest.strip_suffix("_active").or_else(|| rest.strip_suffix("_passive")));
    token.is_some_and(|token| !token.is_empty())
}

impl IdentityPolicy for CommonNamePolicy {
    fn check(&self, claim: &Claim<'_>) -> Result<(), String> {
        if self.allows(claim) {
            return Ok(());
        }
        let text = match claim.cn {
            "" => format!("a certificate without a common name does not allow the name '{}'", claim.name),
            cn => format!("a certificate for '{cn}' does not allow the name '{}'", claim.name),
        };
        if self.lenient {
            tracing::warn!("{text}; allowed all the same, because the rule is lenient");
            return Ok(());
        }
        Err(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(me: &str, name: &str, cn: &str, dialled: bool) -> bool {
        let (me, name): (Fqcn, Fqcn) = (me.parse().unwrap(), name.parse().unwrap());
        let linked = |neighbour: &str| ["relay-1", "relay-1.relay-2"].contains(&neighbour);
        let policy = CommonNamePolicy::new().with_admins(["boss@example.org"]);
        let claim = Claim { name: &name, cn, me: &me, dialled, neighbours: &linked };
        assert!(policy.clone().lenient().check(&claim).is_ok());
        policy.check(&claim).is_ok()
    }

    #[test]
    fn names_belong_to_their_common_name_behind_relays_too() {
        for (me, name, cn, dialled, allowed) in [
            ("server", "site-1", "site-1", false, true),
            ("server", "site-1.job-7", "site-1", false, true),
            ("server", "site-1_7_active", "site-1", false, true),
            ("server", "site-1_7_passive", "site-1", false, true),
            ("server", "site-1_a_b_active", "site-1", false, true),
            ("server", "site-1__active", "site-1", false, false),
            ("server", "site-1_active", "site-1", false, false),
            ("server", "site-1_7", "site-1", false, false),
            ("server", "site-1_7_active.x", "site-1", false, false),
            ("server", "site-10", "site-1", false, false),
            ("server", "site-1", "evil", false, false),
            ("server", "site-1", "", false, false),
            ("server", "evil.site-1", "site-1", false, false),
            ("server", "relay-1.site-1", "site-1", false, true),
            ("server", "relay-1.relay-2.site-1.job", "site-1", false, true),
            ("server", "relay-9.site-1", "site-1", false, false),
            ("relay-9", "relay-9.site-1", "site-1", false, true),
            ("relay-9", "relay-9.site-1_7_active", "site-1", false, true),
            ("relay-9", "relay-9.site-2", "site-1", false, false),
            ("server", "server.job-1", "server.example.org", false, false),
            ("site-1", "server", "server.example.org", true, true),
            ("server", "server", "evil", false, false),
            ("site-1", "server", "evil", false, false),
            ("relay-1.relay-2.site-1", "relay-1.relay-2", "relay-2", true, true),
            ("site-1", "site-2", "server.example.org", true, false),
            ("server", "_admin_1", "boss@example.org", false, true),
            ("server", "_admin_1", "_admin_1", false, false),
        ] {
            assert_eq!(check(me, name, cn, dialled), allowed, "{name} by {cn} at {me}");
        }
    }
}
