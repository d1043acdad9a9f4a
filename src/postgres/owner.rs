//! Which account runs Postgres: it refuses to be root.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
};

use nix::unistd::{Uid, User};

use super::Error;

/// Another account than our own, which only root can become.
#[derive(Clone, Debug)]
pub struct Owner {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// The account for a cluster, `None` for our own. Existing data stays with the account that has it.
    pub fn choose(requested: Option<&str>, cluster: &Path) -> Result<Option<Self>, Error> {
        let own = Uid::effective();
        let existing = match fs::metadata(cluster) {
            Ok(metadata) => Some(metadata.uid()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::path("look at", cluster)(error)),
        };
        if !own.is_root() {
            if let Some(other) = existing.filter(|uid| *uid != own.as_raw()) {
                return Err(Error::ForeignData {
                    path: cluster.to_owned(),
                    account: account_name(other),
                });
            }
            return match requested
                .filter(|name| User::from_name(name).ok().flatten().is_none_or(|user| user.uid != own))
            {
                Some(name) => Err(Error::Account(
                    name.to_owned(),
                    "only root can run Postgres as another account",
                )),
                None => Ok(None),
            };
        }
        if let Some(uid) = existing {
            if uid == 0 {
                return Err(Error::RootData(cluster.to_owned()));
            }
            let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            // Postgres looks its own account up and refuses one without a name.
            let user = user.ok_or_else(|| Error::Account(uid.to_string(), "it owns the data, and does not exist"))?;
            return Self::of(user).map(Some);
        }
        if let Some(name) = requested {
            let user = User::from_name(name).ok().flatten();
            return Self::of(user.ok_or_else(|| Error::Account(name.to_owned(), "it does not exist"))?).map(Some);
        }
        for name in ["postgres", "nobody"] {
            if let Ok(Some(user)) = User::from_name(name) {
                if name == "nobody" {
                    tracing::warn!(
                        "Postgres runs as `nobody`, which other programs may share; make an account and name it with \
                         --postgres-user"
                    );
                }
                return Self::of(user).map(Some);
            }
        }
        Err(Error::Account(
            "postgres".into(),
            "it does not exist, nor does `nobody`",
        ))
    }

    fn of(user: User) -> Result<Self, Error> {
        if user.uid.is_root() {
            return Err(Error::Account(user.name, "Postgres refuses to run as root"));
        }
        Ok(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }

    /// Gives it a file or folder.
    pub fn give(&self, path: &Path) -> Result<(), Error> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(Error::path("give away", path))
    }

    /// Fails with the folder that keeps the account from a path, so that the message names the cause. The account
    /// runs without supplementary groups.
    pub fn must_reach(&self, path: &Path) -> Result<(), Error> {
        let ancestors: Vec<&Path> = path.ancestors().collect();
        for folder in ancestors.into_iter().rev() {
            let metadata = fs::metadata(folder).map_err(Error::path("look at", folder))?;
            let enter = match metadata {
                _ if metadata.uid() == self.uid => 0o100,
                _ if metadata.gid() == self.gid => 0o010,
                _ => 0o001,
            };
            if metadata.mode() & enter == 0 {
                return Err(Error::OutOfReach {
                    path: path.to_owned(),
                    folder: folder.to_owned(),
                    account: self.name.clone(),
                });
            }
        }
        Ok(())
    }
}

fn account_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_is_closed_to_the_account_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("data");
        fs::create_dir(&inner).unwrap();
        let stranger = Owner {
            name: "somebody".into(),
            uid: u32::MAX - 7,
            gid: u32::MAX - 7,
        };
        let open = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        open(0o711);
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(stranger.must_reach(&inner).is_ok());
        open(0o770);
        let Err(Error::OutOfReach { folder: closed, .. }) = stranger.must_reach(&inner) else {
            panic!("a closed folder is passed through");
        };
        assert_eq!(closed, folder.path());
        let metadata = fs::metadata(folder.path()).unwrap();
        let (uid, gid) = (metadata.uid(), metadata.gid());
        open(0o070);
        assert!(
            Owner {
                gid,
                ..stranger.clone()
            }
            .must_reach(&inner)
            .is_ok(),
            "its group may"
        );
        assert!(
            Owner { uid, ..stranger }.must_reach(&inner).is_err(),
            "the owner's bits are the owner's"
        );
    }

    #[test]
    fn root_is_nobody_to_run_postgres() {
        let root = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
        let name = root.name.clone();
        assert!(matches!(Owner::of(root), Err(Error::Account(refused, _)) if refused == name));
        assert_eq!(account_name(0), name);
        assert_eq!(account_name(u32::MAX - 7), (u32::MAX - 7).to_string());
    }
}
