//! Uploads. In order: may the caller (asked of the policies, in a transaction that is rolled back), the bytes, the
//! row. A row never lacks its bytes, and bytes that never get a row are announced in `storage.blobs_to_delete`
//! before the first of them is written.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use sqlx::{PgExecutor, postgres::PgQueryResult};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Storage,
    buckets::Bucket,
    call::{Call, Identity, owner_uuid},
    error::{Error, Result},
    incoming::Incoming,
    names::{check_key, takes_type},
    objects::{Metadata, iso},
};

/// The announcement of an upload's blob is due after a day; uploads end well before.
const LONGEST_UPLOAD: Duration = Duration::from_secs(6 * 60 * 60);

/// What becomes of an object that has the key already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the upload is refused.
    Keep,
    /// It gets the new bytes.
    Replace,
}

impl Existing {
    /// What the header `x-upsert` asks for.
    pub fn asked(call: &Call) -> Self {
        match call.headers().get("x-upsert") {
            Some(value) if value.as_bytes().eq_ignore_ascii_case(b"true") => Self::Replace,
            _ => Self::Keep,
        }
    }
}

/// Where an upload or a copy goes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The bucket's id.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// Who will own it.
    pub owner: Option<String>,
    /// What becomes of an object that is there.
    pub existing: Existing,
}

/// What an object's row says about the bytes.
#[derive(Clone, Debug)]
pub struct Description {
    /// `metadata`
    pub metadata: Value,
    /// `user_metadata`
    pub user_metadata: Value,
}

/// `POST /object/{bucket}/{key}` and `PUT`, which always replaces.
pub async fn upload(
    storage: &Arc<Storage>,
    call: &Arc<Call>,
    target: Target,
    body: Body,
    operation: &'static str,
) -> Result<Response> {
    let bucket = storage.bucket(&target.bucket).await?;
    let incoming = receive(storage, call, &bucket, &target, body).await?;
    let length = incoming.length;
    let description = Description {
        metadata: json!({ "mimetype": incoming.content_type, "contentLength": length }),
        user_metadata: incoming.user_metadata.clone(),
    };
    probe(storage, call, &target, &description, operation).await?;
    let (id, key) = save(storage, call, &bucket, target, incoming, operation).await?;
    Ok(Json(json!({ "Id": id, "Key": key })).into_response())
}

/// Reads an upload up to its first byte and refuses what the bucket does not take.
pub async fn receive(storage: &Storage, call: &Call, bucket: &Bucket, target: &Target, body: Body) -> Result<Incoming> {
    check_key(&target.key)?;
    let incoming = Incoming::read(call.headers(), body).await?;
    bucket.check_type(&target.key, &incoming.content_type)?;
    if incoming.exact
        && incoming
            .length
            .is_some_and(|length| length > storage.limit(bucket, &target.key))
    {
        return Err(Error::EntityTooLarge);
    }
    Ok(incoming)
}

/// Asks the policies whether the caller may write the object.
pub async fn probe(
    storage: &Storage,
    call: &Call,
    target: &Target,
    description: &Description,
    operation: &'static str,
) -> Result<()> {
    let mut transaction = call.begin(&storage.pool, Identity::Caller, operation).await?;
    write_row(&mut *transaction, target, Uuid::new_v4(), "1", description).await?;
    transaction.rollback().await?;
    Ok(())
}

/// Writes the bytes, then the row. Returns the object's id and `bucket/key`.
pub async fn save(
    storage: &Arc<Storage>,
    call: &Arc<Call>,
    bucket: &Bucket,
    target: Target,
    incoming: Incoming,
    operation: &'static str,
) -> Result<(Uuid, String)> {
    let limit = storage.limit(bucket, &target.key);
    let version = storage.announce_blob().await?;
    let writing = storage.blobs.write(version, incoming.bytes, limit);
    let written = match tokio::time::timeout(LONGEST_UPLOAD, writing).await {
        Ok(Ok(written)) => written,
        refused => {
            storage.discard_blob(version).await;
            return Err(refused.map_or(Error::Interrupted, |refused| {
                refused.map_or_else(|error| error, |_| Error::Interrupted)
            }));
        }
    };
    let metadata = Metadata {
        e_tag: Some(written.etag),
        size: Some(written.size),
        mimetype: Some(incoming.content_type),
        cache_control: Some(incoming.cache_control),
        last_modified: Some(iso(OffsetDateTime::now_utc())),
        content_length: Some(written.size),
        http_status_code: Some(200),
        x_robots_tag: incoming.robots,
        content_encoding: incoming.encoding,
    };
    let description = Description {
        metadata: json!(metadata),
        user_metadata: incoming.user_metadata,
    };
    let name = format!("{}/{}", target.bucket, target.key);
    let id = finish(storage, call, target, version, description, operation).await?;
    Ok((id, name))
}

/// Writes the row of a blob that is whole. A client that hangs up now does not stop it.
pub async fn finish(
    storage: &Arc<Storage>,
    call: &Arc<Call>,
    target: Target,
    version: Uuid,
    description: Description,
    operation: &'static str,
) -> Result<Uuid> {
    let (storage, call) = (Arc::clone(storage), Arc::clone(call));
    let finishing = tokio::spawn(async move {
        let written = async {
            let mut transaction = call.begin(&storage.pool, Identity::Service, operation).await?;
            let id = Uuid::new_v4();
            let id = write_row(&mut *transaction, &target, id, &version.to_string(), &description).await?;
            transaction.commit().await?;
            Ok(id)
        }
        .await;
        match written {
            // The bytes it replaced may go.
            Ok(_) => storage.sweep.notify_one(),
            Err(_) => storage.discard_blob(version).await,
        }
        written
    });
    finishing.await.unwrap_or(Err(Error::Interrupted))
}

/// Makes or replaces the row; the unique key and the row's lock let one of several writers through at a time.
async fn write_row(
    database: impl PgExecutor<'_>,
    target: &Target,
    id: Uuid,
    version: &str,
    description: &Description,
) -> Result<Uuid> {
    let statement = match target.existing {
        Existing::Keep => include_str!("../../../sql/gateway/storage_insert_object.sql"),
        Existing::Replace => include_str!("../../../sql/gateway/storage_upsert_object.sql"),
    };
    let query = sqlx::query(statement)
        .bind(id)
        .bind(&target.bucket)
        .bind(&target.key)
        .bind(version)
        .bind(owner_uuid(target.owner.as_deref()))
        .bind(&target.owner)
        .bind(&description.metadata)
        .bind(&description.user_metadata);
    match target.existing {
        Existing::Keep => {
            let _: PgQueryResult = query.execute(database).await?;
            Ok(id)
        }
        Existing::Replace => {
            use sqlx::Row as _;
            Ok(query.fetch_one(database).await?.try_get("id")?)
        }
    }
}

impl Bucket {
    /// Refuses a type the bucket does not take; the placeholder of an empty folder has none.
    pub fn check_type(&self, key: &str, content_type: &str) -> Result<()> {
        match &self.allowed_mime_types {
            Some(rules) if !rules.is_empty() && !is_placeholder(key) && !takes_type(rules, content_type) => {
                Err(Error::InvalidMimeType(content_type.to_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl Storage {
    /// How many bytes an object of that key may have.
    pub fn limit(&self, bucket: &Bucket, key: &str) -> u64 {
        if is_placeholder(key) {
            return 0;
        }
        let own = bucket.file_size_limit.and_then(|limit| u64::try_from(limit).ok());
        own.map_or(self.settings.file_size_limit, |limit| {
            limit.min(self.settings.file_size_limit)
        })
    }

    /// Names a new blob, and notes that it is to be deleted in a day unless a row takes it.
    pub async fn announce_blob(&self) -> Result<Uuid> {
        let version = Uuid::new_v4();
        sqlx::query("insert into storage.blobs_to_delete (version, due) values ($1, now() + interval '1 day')")
            .bind(version.to_string())
            .execute(&self.pool)
            .await?;
        Ok(version)
    }

    /// Has a blob that got no row deleted now; should this fail, it is deleted in a day.
    pub async fn discard_blob(&self, version: Uuid) {
        let noted = sqlx::query("update storage.blobs_to_delete set due = now() where version = $1")
            .bind(version.to_string())
            .execute(&self.pool)
            .await;
        match noted {
            Ok(_) => self.sweep.notify_one(),
            Err(error) => tracing::warn!(error = %error, "storage: a refused upload's bytes stay for a day"),
        }
    }
}

/// File managers mark an empty folder with an empty object of this name.
fn is_placeholder(key: &str) -> bool {
    key.ends_with(".emptyFolderPlaceholder")
}
