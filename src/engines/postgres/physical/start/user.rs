//! Who runs a scratch server: PostgreSQL refuses root, so root steps down to the user who is named.

use rustix::thread::{CapabilitySet, capabilities};

use crate::engines::postgres::physical::restore::target::Owner;

/// Who root becomes, unless somebody else is named.
const USUAL: &str = "postgres";

/// Who a server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum User {
    /// Whoever runs this program.
    Oneself,
    /// Another one, by name and numbers.
    Other { name: String, user: u32, group: u32 },
}

impl User {
    /// Finds the user, and whether this process may step down to it; else why not.
    pub(super) fn find(run_as: Option<&str>) -> Result<Self, String> {
        let own = rustix::process::geteuid();
        if !own.is_root() && run_as.is_none() {
            return Ok(Self::Oneself);
        }
        let name = run_as.unwrap_or(USUAL);
        let found = nix::unistd::User::from_name(name).ok().flatten();
        let Some(found) = found else {
            return Err(format!(
                "this host has no user \"{name}\" for the scratch server, which cannot run as root; name one with --run-as"
            ));
        };
        let (user, group) = (found.uid.as_raw(), found.gid.as_raw());
        if user == 0 {
            return Err("PostgreSQL does not run as root; name another user with --run-as".to_owned());
        }
        if user == own.as_raw() {
            return Ok(Self::Oneself);
        }
        let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
        if !capabilities(None).is_ok_and(|sets| sets.effective.contains(needed)) {
            return Err(format!("this process may not run a server as user \"{name}\""));
        }
        Ok(Self::Other {
            name: name.to_owned(),
            user,
            group,
        })
    }

    /// Returns the numbers of another user.
    pub(super) fn other(&self) -> Option<(u32, u32)> {
        match self {
            Self::Oneself => None,
            Self::Other { user, group, .. } => Some((*user, *group)),
        }
    }

    /// Returns who the files of the server belong to.
    pub(super) fn owner(&self) -> Owner {
        self.other()
            .map_or(Owner::Oneself, |(user, group)| Owner::Of(user, group))
    }

    /// Says who it is.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Oneself => "this user".to_owned(),
            Self::Other { name, .. } => format!("user \"{name}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_steps_down_and_nobody_else_becomes_another() {
        let unknown = User::find(Some("no such user")).unwrap_err();
        assert!(unknown.contains("--run-as"), "{unknown}");
        assert!(User::find(Some("root")).is_err());
        if !rustix::process::geteuid().is_root() {
            assert_eq!(User::find(None), Ok(User::Oneself));
        }
    }
}
