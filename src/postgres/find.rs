//! Where PostgreSQL's programs are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::Error;

/// The oldest PostgreSQL that the platform and the migrations run on.
pub const OLDEST: u32 = 15;

/// Folders whose children are one installation each, by what precedes and follows the version.
const FAMILIES: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];

/// A folder with `initdb` and `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The folder.
    pub bin: PathBuf,
    /// PostgreSQL's major version.
    pub major: u32,
}

impl Installation {
    /// The installation to use: the given folder, or else the newest on this machine. `wanted` is the major version
    /// that existing data needs.
    ///
    /// # Errors
    /// When there is none that fits; the message says how to get one.
    pub fn find(given: Option<&Path>, wanted: Option<u32>) -> Result<Self, Error> {
        let found = match given {
            Some(bin) => vec![Self::at(bin).ok_or_else(|| Error::NotAnInstallation(bin.to_owned()))?],
            None => Self::all(),
        };
        let majors: Vec<u32> = found.iter().map(|installation| installation.major).collect();
        let fits = |major: u32| wanted.map_or(major >= OLDEST, |wanted| major == wanted);
        found
            .into_iter()
            .filter(|installation| fits(installation.major))
            .max_by_key(|installation| installation.major)
            .ok_or(Error::NoInstallation { found: majors, wanted })
    }

    fn all() -> Vec<Self> {
        let family = |&(parent, prefix, bin): &(&str, &str, &str)| {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten();
            entries
                .filter(|entry| {
                    let name = entry.file_name();
                    name.to_str()
                        .and_then(|name| name.strip_prefix(prefix))
                        .is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
                })
                .map(|entry| entry.path().join(bin))
                .collect::<Vec<_>>()
        };
        let path = env::var_os("PATH").unwrap_or_default();
        FAMILIES
            .iter()
            .flat_map(family)
            .chain(["/usr/local/pgsql/bin".into()])
            .chain(env::split_paths(&path))
            .filter_map(|bin| Self::at(&bin))
            .collect()
    }

    fn at(bin: &Path) -> Option<Self> {
        // Debian's wrappers on PATH have no `postgres` beside them, and `share` is found relative to the real one.
        let bin = fs::canonicalize(bin.join("postgres")).ok()?.parent()?.to_owned();
        bin.join("initdb").is_file().then_some(())?;
        let output = Command::new(bin.join("postgres"))
            .arg("--version")
            .env_clear()
            .output()
            .ok()?;
        let major = major(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { bin, major })
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` → 15; pre-releases read `19beta1`.
fn major(version: &str) -> Option<u32> {
    let number = version.strip_prefix("postgres (PostgreSQL) ")?;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

/// The one command that installs PostgreSQL on this system.
pub fn advice(major: Option<u32>) -> String {
    let has = |program: &str| {
        ["/usr/bin", "/sbin", "/opt/homebrew/bin"]
            .iter()
            .any(|dir| Path::new(dir).join(program).exists())
    };
    match major {
        _ if has("apt-get") => match major {
            Some(major) => format!("apt-get install postgresql-{major}"),
            None => "apt-get install postgresql".into(),
        },
        _ if has("dnf") => "dnf install postgresql-server postgresql-contrib".into(),
        _ if has("apk") => format!("apk add postgresql{0} postgresql{0}-contrib", major.unwrap_or(17)),
        _ if has("pacman") => "pacman -S postgresql".into(),
        _ if has("brew") => format!("brew install postgresql@{}", major.unwrap_or(17)),
        _ => "install PostgreSQL (https://www.postgresql.org/download) and give its bin folder with --postgres-bin"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_the_first_number() {
        assert_eq!(
            major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major("initdb (PostgreSQL) 15.18\n"), None);
    }

    #[test]
    fn a_folder_without_postgres_is_no_installation() {
        let error = Installation::find(Some(Path::new("/usr/share")), None).unwrap_err();
        assert!(matches!(error, Error::NotAnInstallation(_)));
    }

    #[test]
    fn data_needs_an_installation_of_its_own_version() {
        let error = Installation::find(None, Some(7)).unwrap_err();
        assert!(matches!(error, Error::NoInstallation { wanted: Some(7), .. }));
        assert!(error.to_string().contains('7'), "{error}");
    }
}
