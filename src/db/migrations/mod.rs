//! The product's schema (`supabase/migrations`), moved by refinery; one ledger, the Supabase CLI's.
//!
//! The ledger is `supabase_migrations.schema_migrations`, so that `switchboard migrate up`, `supabase db push` and
//! `supabase migration up` see one truth, whoever went first. refinery would keep a table of its own: its three
//! traits are implemented here on a sqlx connection, and its insert gives way to ours in the same transaction.
//!
//! A file that is applied somewhere is never edited, with one exception: it may be replaced by one that does the same
//! wherever the earlier text ran. It then names that text in a line `-- replaces sha256:<digest>`, and the ledger's
//! copy is as good as its own. The digest is of the text without white space and semicolons, which the CLI does not
//! keep: `tr -d ';[:space:]' < file | sha256sum`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use refinery::{Migration, Runner, error::Kind};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use super::{Database, Login};
use ledger::Ledger;

mod ledger;

/// What the binary carries: file names and texts.
const EMBEDDED: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Why the schema was not moved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// A file's name would not mean the same to the Supabase CLI.
    #[error("migration {0} is not named <14 digits>_<a-z, 0-9 and _>.sql, as in 20260131120000_add_tags.sql")]
    Name(String),
    /// Two files claim one version, or the ledger's history and the files differ.
    #[error("{0}")]
    History(String),
    /// A migration failed and left nothing; those before it are applied and stay.
    #[error("{0}")]
    Failed(String),
    /// The database cannot be reached, or refuses.
    #[error("cannot read the ledger of migrations")]
    Database(#[from] sqlx::Error),
}

/// A set of migrations, sorted by version.
#[derive(Clone, Debug)]
pub struct Migrations {
    files: Vec<File>,
}

/// Begins a line that names an earlier text of the same migration.
const REPLACES: &str = "-- replaces sha256:";

#[derive(Clone, Debug)]
struct File {
    migration: Migration,
    sql: String,
}

/// How one migration stands in one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// 14 digits.
    pub version: String,
    /// What it is called.
    pub name: String,
    /// Whether it is applied.
    pub state: State,
}

/// Whether a migration is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As we have it.
    Applied,
    /// Not yet.
    Pending,
    /// With another text than ours.
    Changed,
    /// In the database, and unknown to us.
    Unknown,
    /// Not applied, and older than one that is.
    Skipped,
}

impl Migrations {
    /// Those in the binary.
    ///
    /// # Errors
    /// When one of them is not named as it must be.
    pub fn embedded() -> Result<Self, Error> {
        Self::new(
            EMBEDDED
                .iter()
                .map(|(name, sql)| Ok((name.to_string(), sql.to_string()))),
        )
    }

    /// Those of a folder, such as a project's `supabase/migrations`. Files that are not `.sql` are passed over.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file in it is not named as it must be.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let refused = |error| Error::Read(folder.to_owned(), error);
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(refused)? {
            let path = entry.map_err(refused)?.path();
            if path.extension().is_some_and(|extension| extension == "sql") {
                paths.push(path);
            }
        }
        Self::new(paths.into_iter().map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let sql = fs::read_to_string(&path).map_err(|error| Error::Read(path, error))?;
            Ok((name, sql))
        }))
    }

    fn new(named: impl Iterator<Item = Result<(String, String), Error>>) -> Result<Self, Error> {
        let mut files = named
            .map(|file| file.and_then(|(name, sql)| File::new(&name, sql)))
            .collect::<Result<Vec<_>, _>>()?;
        files.sort_by_key(|file| file.migration.version());
        if let Some([file, _]) = files
            .array_windows()
            .find(|[a, b]| a.migration.version() == b.migration.version())
        {
            return Err(Error::History(format!(
                "two migrations have the version {}",
                file.migration.version()
            )));
        }
        Ok(Self { files })
    }

    /// Applies what is missing, each migration in a transaction of its own, and returns the names of those. Two at
    /// once wait for each other. Needs a session: a pooler in transaction mode will not do.
    ///
    /// # Errors
    /// When a migration fails, or the ledger and the migrations have parted.
    pub async fn apply(&self, database: &Database) -> Result<Vec<String>, Error> {
        let mut ledger = Ledger::new(database.connect(Login::Owner).await?, &self.files);
        ledger.lock().await?;
        let migrations: Vec<_> = self.files.iter().map(|file| file.migration.clone()).collect();
        let outcome = Runner::new(&migrations).run_async(&mut ledger).await;
        let closed = ledger.close().await;
        let report = outcome.map_err(|error| self.explain(&error))?;
        closed?;
        Ok(report.applied_migrations().iter().map(full_name).collect())
    }

    /// How each migration stands, ours and the database's, by version. Changes nothing.
    ///
    /// # Errors
    /// When the database cannot be reached, or refuses.
    pub async fn status(&self, database: &Database) -> Result<Vec<Standing>, Error> {
        let mut ledger = Ledger::new(database.connect(Login::Owner).await?, &self.files);
        let applied = ledger.applied().await?;
        ledger.close().await?;
        let newest = applied.iter().map(Migration::version).max();
        let ours = self.files.iter().map(|File { migration, .. }| {
            let state = match applied.iter().find(|found| found.version() == migration.version()) {
                Some(found) if found == migration => State::Applied,
                Some(_) => State::Changed,
                None if Some(migration.version()) < newest => State::Skipped,
                None => State::Pending,
            };
            Standing::of(migration, state)
        });
        let known = |found: &&Migration| {
            self.files
                .iter()
                .any(|file| file.migration.version() == found.version())
        };
        let theirs = applied
            .iter()
            .filter(|found| !known(found))
            .map(|found| Standing::of(found, State::Unknown));
        let mut standings: Vec<_> = ours.chain(theirs).collect();
        standings.sort_by(|a, b| a.version.cmp(&b.version));
        Ok(standings)
    }

    /// refinery's errors in words for the person who moves the schema.
    fn explain(&self, error: &refinery::Error) -> Error {
        match error.kind() {
            Kind::DivergentVersion(applied, _) => Error::History(format!(
                "migration {} was changed after it was applied to this database; bring its file back, and make the \
                 change in a new migration",
                applied.version()
            )),
            // The one that the database has carries no text.
            Kind::MissingVersion(missing) if missing.sql().is_none() => Error::History(format!(
                "this database has migration {}, which is unknown here: a newer version moved it, or a project with \
                 migrations of its own; use the newer version, or name the folder that has them all",
                full_name(missing)
            )),
            Kind::MissingVersion(missing) => Error::History(format!(
                "migration {} is not applied to this database, yet a later one is; give it a version after the last \
                 one applied",
                full_name(missing)
            )),
            Kind::Connection(doing, cause) => {
                let file = self
                    .files
                    .iter()
                    .find(|file| doing.contains(&file.migration.to_string()));
                match cause.downcast_ref::<sqlx::Error>() {
                    Some(sqlx::Error::Database(cause)) => Error::Failed(file.map_or_else(
                        || format!("{doing}: {cause}"),
                        |file| file.failure(cause.downcast_ref()),
                    )),
                    _ => Error::Failed(format!("{doing}: {cause}")),
                }
            }
            kind => Error::History(kind.to_string()),
        }
    }
}

impl File {
    fn new(name: &str, sql: String) -> Result<Self, Error> {
        let unfit = || Error::Name(name.to_owned());
        let (version, title) = name
            .strip_suffix(".sql")
            .and_then(|stem| stem.split_once('_'))
            .ok_or_else(unfit)?;
        // refinery would cut a title at the first other character.
        let fits = version.len() == 14
            && version.bytes().all(|byte| byte.is_ascii_digit())
            && !title.is_empty()
            && title.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !fits {
            return Err(unfit());
        }
        let migration = Migration::unapplied(&format!("V{version}__{title}"), &sql).map_err(|_| unfit())?;
        Ok(Self { migration, sql })
    }

    /// Whether this text, as a ledger has it, is ours or one that ours replaces.
    fn is(&self, text: &str) -> bool {
        let text = squeeze(text);
        let digest = || -> String {
            let bytes = Sha256::digest(&text);
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        text == squeeze(&self.sql) || self.replaces().any(|earlier| earlier == digest())
    }

    /// The digests of the texts that this one replaces.
    fn replaces(&self) -> impl Iterator<Item = &str> {
        self.sql
            .lines()
            .filter_map(|line| line.strip_prefix(REPLACES))
            .map(str::trim)
    }

    /// What Postgres says against it, and where.
    fn failure(&self, cause: &PgDatabaseError) -> String {
        let mut words = format!("migration {}", full_name(&self.migration));
        if let Some(PgErrorPosition::Original(position)) = cause.position() {
            let before = self.sql.chars().take(position.saturating_sub(1));
            words += &format!(", line {}", before.filter(|c| *c == '\n').count() + 1);
        }
        words += &format!(": {} ({})", cause.message(), cause.code());
        for (name, text) in [
            ("detail", cause.detail()),
            ("hint", cause.hint()),
            ("in", cause.r#where()),
        ] {
            if let Some(text) = text {
                words += &format!("\n  {name}: {text}");
            }
        }
        words
    }
}

impl Standing {
    fn of(migration: &Migration, state: State) -> Self {
        Self {
            version: migration.version().to_string(),
            name: migration.name().to_owned(),
            state,
        }
    }
}

fn full_name(migration: &Migration) -> String {
    format!("{}_{}", migration.version(), migration.name())
}

/// The CLI keeps statements split at `;` and trimmed; this is what both keep.
fn squeeze(sql: &str) -> String {
    sql.chars().filter(|c| !c.is_whitespace() && *c != ';').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> Result<Migrations, Error> {
        Migrations::new(names.iter().map(|name| Ok((name.to_string(), "select 1;".into()))))
    }

    #[test]
    fn the_binarys_own_are_well_named() {
        Migrations::embedded().unwrap();
    }

    #[test]
    fn a_name_the_supabase_cli_or_refinery_would_take_otherwise_is_refused() {
        for name in [
            "1_a.sql",
            "20260101000000.sql",
            "20260101000000_.sql",
            "20260101000000_a-b.sql",
            "2026010100000x_a.sql",
        ] {
            assert!(matches!(set(&[name]), Err(Error::Name(_))), "{name}");
        }
        assert!(matches!(
            set(&["20260101000000_a.sql", "20260101000000_b.sql"]),
            Err(Error::History(_))
        ));
    }

    #[test]
    fn statements_split_by_the_cli_are_the_same_text() {
        assert_eq!(
            squeeze("create table a ();\n\ninsert into b;\n"),
            squeeze("create table a ()insert into b")
        );
        assert_ne!(squeeze("select 1"), squeeze("select 2"));
    }

    /// The texts that were merged first, and may be in any ledger.
    #[test]
    fn the_replaced_texts_of_our_own_are_named() {
        let replaced: Vec<_> = Migrations::embedded()
            .unwrap()
            .files
            .iter()
            .flat_map(|file| {
                file.replaces()
                    .map(|digest| (file.migration.version(), digest.to_owned()))
                    .collect::<Vec<_>>()
            })
            .collect();
        let merged = [
            (
                20_261_122_000_200,
                "c788c6f21196f0566a3c0470e04f5bafb9a1b852459820772afe4ef7d2b4db92",
            ),
            (
                20_261_122_000_300,
                "ed74572ef95cf1d3faae9469b6721469a9546df9f526b2e53cdc955f09071fed",
            ),
            (
                20_261_122_000_400,
                "e299ab7eb7f4bf9bf68e04b2404998409b092d2cfb0505180dfc63899a78be0e",
            ),
        ];
        assert_eq!(replaced, merged.map(|(version, digest)| (version, digest.to_owned())));
    }

    #[test]
    fn order_is_by_version() {
        let set = set(&["20260102000000_second.sql", "20260101000000_first.sql"]).unwrap();
        let names: Vec<_> = set.files.iter().map(|file| file.migration.name()).collect();
        assert_eq!(names, ["first", "second"]);
    }
}
