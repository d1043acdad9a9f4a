//! `/storage/v1`: buckets and files, as Supabase's storage serves them.
//!
//! Rows say what exists and policies on them who may touch it; bytes lie in blobs that only rows name.
//!
//! - [`routes`]: which path does what
//! - [`call`]: who calls, and the transaction that acts for it
//! - [`buckets`]; [`objects`] (rows), [`upload`] and [`incoming`] (what an upload looks like), [`download`], [`list`],
//!   [`transfer`] (move, copy), [`delete`], [`signed`] (URLs that carry their own permission)
//! - [`blobs`]: the bytes; [`sweep`]: deletes those no row needs any more
//! - [`names`], [`body`], [`error`]: what is accepted, and how the rest is refused

use std::{path::PathBuf, sync::Arc};

use axum::Router;
use sqlx::PgPool;
use tokio::sync::Notify;

use super::{Context, keys::Keys};
use crate::db::Login;
use blobs::Blobs;

mod blobs;
mod body;
mod buckets;
mod call;
mod delete;
mod download;
mod error;
mod incoming;
mod list;
mod names;
mod objects;
mod routes;
mod signed;
mod sweep;
mod transfer;
mod upload;

/// Connections for rows. None is held while bytes move.
const CONNECTIONS: u32 = 10;

/// How the service behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of uploaded files; made if missing. Several gateways on one database need one they all see.
    pub folder: PathBuf,
    /// The largest file in bytes; buckets may set less.
    pub file_size_limit: u64,
    /// How long a URL to upload to may be used, in seconds.
    pub upload_url_lifetime: i64,
}

impl Settings {
    /// The settings of `supabase start`, with files in this folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            file_size_limit: 50 << 20,
            upload_url_lifetime: 7_200,
        }
    }
}

/// What the service's requests share.
#[derive(Debug)]
struct Storage {
    pool: PgPool,
    blobs: Blobs,
    keys: Arc<Keys>,
    settings: Settings,
    /// Told when blobs may have become due.
    sweep: Notify,
}

/// The service's routes, without the prefix `/storage/v1`.
///
/// # Errors
/// When the folder of files cannot be made.
#[expect(clippy::unused_async, reason = "services start alike")]
pub async fn router(context: Context, settings: Settings) -> anyhow::Result<Router> {
    let storage = Arc::new(Storage {
        pool: context.database.pool(Login::Storage, CONNECTIONS),
        blobs: Blobs::in_folder(&settings.folder)?,
        keys: context.keys,
        settings,
        sweep: Notify::new(),
    });
    let health = context.health.part("storage");
    let shutdown = context.shutdown.clone();
    context
        .shutdown
        .spawn(sweep::run(Arc::clone(&storage), shutdown, health));
    Ok(Router::new().fallback(routes::serve).with_state(storage))
}
