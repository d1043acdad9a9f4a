//! Removes files that the database listed for removal, through the Storage API: only it may remove one, as SQL would
//! leave the bytes behind.
//!
//! Each worker claims some of the list for a while (`chat.claim_files`), asks storage, and has the database look what is
//! gone by then (`chat.settle_files`). A worker that dies leaves a claim that runs out; a file that somebody else
//! removed is done with.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sqlx::PgPool;
use url::Url;

use super::{
    duties,
    duty::{Outcome, Work},
};
use crate::{config::Secret, health::Health};

/// How many files one request removes.
const AT_ONCE: i32 = 100;

/// How long storage may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Storage API and the key that may remove files there.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The project's URL, as clients know it.
    pub url: Url,
    /// The service key.
    pub key: Secret,
}

/// Why files could not be removed. They stay listed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Storage failed; the list says how.
    #[error("storage did not remove {0} files")]
    Storage(usize),
}

/// The duty of one worker.
#[derive(Debug)]
pub struct Files {
    storage: Option<(Storage, reqwest::Client)>,
    health: Health,
    told: AtomicBool,
}

impl Files {
    /// Without a storage, files wait, and `health` says so.
    ///
    /// # Errors
    /// When there is no TLS to be had.
    pub fn new(storage: Option<Storage>, health: Health) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        Ok(Self {
            storage: storage.map(|storage| (storage, client)),
            health,
            told: AtomicBool::new(false),
        })
    }

    /// Removes some of the files that are due.
    ///
    /// # Errors
    /// When database or storage fail; the files that are left are tried again later.
    pub async fn tick(&self, pool: &PgPool) -> Result<Outcome, Error> {
        let due = duties::FILES.tick(pool).await?;
        let (Some((storage, client)), Outcome::Done(count)) = (&self.storage, due) else {
            if let Outcome::Done(count) = due {
                self.tell(count);
            }
            return Ok(Outcome::Idle);
        };
        tracing::trace!(count, "files are due for removal");

        let claimed: Vec<(i64, String, String)> = sqlx::query_as("select id, bucket, name from chat.claim_files($1)")
            .persistent(false)
            .bind(AT_ONCE)
            .fetch_all(pool)
            .await?;
        let mut buckets: BTreeMap<String, (Vec<i64>, Vec<String>)> = BTreeMap::new();
        for (id, bucket, name) in claimed {
            let (ids, names) = buckets.entry(bucket).or_default();
            ids.push(id);
            names.push(name);
        }

        let (mut removed, mut left) = (0, 0);
        for (bucket, (ids, names)) in buckets {
            let error = remove(client, storage, &bucket, &names).await.err();
            let gone: i64 = sqlx::query_scalar("select chat.settle_files($1, $2)")
                .persistent(false)
                .bind(&ids)
                .bind(&error)
                .fetch_one(pool)
                .await?;
            removed += gone;
            left += ids.len() - usize::try_from(gone).unwrap_or_default();
        }
        if left > 0 {
            return Err(Error::Storage(left));
        }
        Ok(removed.into())
    }

    /// Says once that files wait for somebody with a key.
    fn tell(&self, count: u64) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                count,
                "erased chats left files that wait: give the worker --supabase-url and --service-key"
            );
            self.health
                .part("files")
                .failing("files wait for removal: the worker knows no storage");
        }
    }
}

impl Work for Files {
    type Error = Error;

    fn work(&self, pool: &PgPool) -> impl Future<Output = Result<Outcome, Error>> + Send {
        self.tick(pool)
    }
}

/// Asks storage to remove files of one bucket; the error is for the list, and holds no secret.
async fn remove(client: &reqwest::Client, storage: &Storage, bucket: &str, names: &[String]) -> Result<(), String> {
    let mut url = storage.url.clone();
    url.path_segments_mut()
        .map_err(|()| "the URL of storage has no path".to_owned())?
        .pop_if_empty()
        .extend(["storage", "v1", "object", bucket]);
    let answer = client
        .delete(url)
        .header("apikey", storage.key.expose())
        .bearer_auth(storage.key.expose())
        .json(&serde_json::json!({ "prefixes": names }))
        .send()
        .await
        .map_err(|error| {
            let error = error.without_url();
            tracing::debug!(error = %error, "storage cannot be reached");
            if error.is_timeout() {
                "storage did not answer in time"
            } else {
                "storage cannot be reached"
            }
            .to_owned()
        })?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(format!("storage answered {}", answer.status()))
    }
}
