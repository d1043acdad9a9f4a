//! Moving and copying objects.

use std::sync::Arc;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Storage,
    buckets::Bucket,
    call::{Call, Identity, owner_uuid},
    error::{Error, Result},
    names::check_key,
    objects::{self, Object, iso},
    upload::{self, Description, Existing, Target},
};

/// The body of `POST /object/move`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    bucket_id: String,
    source_key: String,
    destination_key: String,
    destination_bucket: Option<String>,
}

/// `POST /object/move`: only the row changes, its blob has a name of its own. The mover becomes the owner.
pub async fn r#move(storage: &Storage, call: &Call, wanted: Move) -> Result<Response> {
    check_key(&wanted.destination_key)?;
    let owner = call.subject()?;
    let bucket = wanted.destination_bucket.as_deref().unwrap_or(&wanted.bucket_id);
    let moved = Json(json!({ "message": "Successfully moved" })).into_response();
    let destination = storage.bucket(bucket).await?;
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.object.move")
        .await?;
    let source = objects::find(&mut *transaction, &wanted.bucket_id, &wanted.source_key).await?;
    if bucket == wanted.bucket_id && wanted.destination_key == wanted.source_key {
        return Ok(moved);
    }
    if bucket != wanted.bucket_id {
        storage.check_transfer(&source, &destination, &wanted.destination_key)?;
    }
    let updated = sqlx::query(include_str!("../../../sql/gateway/storage_move_object.sql"))
        .bind(source.id)
        .bind(bucket)
        .bind(&wanted.destination_key)
        .bind(owner_uuid(owner))
        .bind(owner)
        .execute(&mut *transaction)
        .await?;
    if updated.rows_affected() == 0 {
        return Err(Error::denied("Access denied"));
    }
    transaction.commit().await?;
    Ok(moved)
}

/// The body of `POST /object/copy`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copy {
    bucket_id: String,
    source_key: String,
    destination_key: String,
    destination_bucket: Option<String>,
    copy_metadata: Option<bool>,
    metadata: Option<NewMetadata>,
}

/// What a copy says about itself where it does not say what its source says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewMetadata {
    cache_control: Option<String>,
    mimetype: Option<String>,
}

/// `POST /object/copy`
pub async fn copy(storage: &Arc<Storage>, call: &Arc<Call>, wanted: Copy) -> Result<Response> {
    const OPERATION: &str = "storage.object.copy";
    check_key(&wanted.destination_key)?;
    let mut transaction = call.begin(&storage.pool, Identity::Caller, OPERATION).await?;
    let mut source = objects::find(&mut *transaction, &wanted.bucket_id, &wanted.source_key).await?;
    transaction.commit().await?;
    let blob = source.blob()?;

    if wanted.copy_metadata == Some(false) {
        replace_metadata(&mut source, call, wanted.metadata.unwrap_or_default())?;
    }
    let target = Target {
        bucket: wanted.destination_bucket.unwrap_or(wanted.bucket_id),
        key: wanted.destination_key,
        owner: call.subject()?.map(str::to_owned),
        existing: Existing::asked(call),
    };
    storage.check_transfer(&source, &storage.bucket(&target.bucket).await?, &target.key)?;
    let mut facts = source.facts();
    facts.last_modified = Some(iso(OffsetDateTime::now_utc()));
    let description = Description {
        metadata: json!(facts),
        user_metadata: source.user_metadata.take().unwrap_or_else(|| json!({})),
    };
    upload::probe(storage, call, &target, &description, OPERATION).await?;

    let version = storage.announce_blob().await?;
    if let Err(error) = storage.blobs.copy(blob, version).await {
        storage.discard_blob(version).await;
        return Err(error);
    }
    let (bucket, key) = (target.bucket.clone(), target.key.clone());
    upload::finish(storage, call, target, version, description, OPERATION).await?;
    let copy = objects::find(&storage.pool, &bucket, &key).await?;
    let mut shown = copy.to_json();
    shown["Id"] = json!(copy.id);
    shown["Key"] = format!("{bucket}/{key}").into();
    Ok(Json(shown).into_response())
}

fn replace_metadata(source: &mut Object, call: &Call, given: NewMetadata) -> Result<()> {
    let mut facts = source.facts();
    facts.mimetype = Some(given.mimetype.unwrap_or_else(|| "application/octet-stream".into()));
    facts.cache_control = Some(given.cache_control.unwrap_or_else(|| "no-cache".into()));
    source.metadata = Some(json!(facts));
    source.user_metadata = match call.headers().get("x-metadata") {
        None => None,
        Some(encoded) => Some(
            BASE64_STANDARD
                .decode(encoded)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
                .ok_or(Error::invalid("x-metadata is not base64-encoded JSON"))?,
        ),
    };
    Ok(())
}

impl Storage {
    /// Refuses what the destination's bucket does not take: its limits hold for every way in.
    fn check_transfer(&self, source: &Object, bucket: &Bucket, key: &str) -> Result<()> {
        let facts = source.facts();
        bucket.check_type(key, facts.mimetype.as_deref().unwrap_or("application/octet-stream"))?;
        if facts.size.is_some_and(|size| size > self.limit(bucket, key)) {
            return Err(Error::EntityTooLarge);
        }
        Ok(())
    }
}
