//! Buckets.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{FromRow, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Storage,
    body::present,
    call::{Call, Identity, owner_uuid},
    error::{Error, Result},
    names::{Size, check_bucket_name, check_mime_rules},
    objects::iso,
};

/// Objects deleted in one transaction when a bucket is emptied.
const BATCH: i64 = 1_000;

/// A row of `storage.buckets`.
#[derive(Debug)]
pub struct Bucket {
    /// What paths call it.
    pub id: String,
    name: String,
    owner: Option<Uuid>,
    /// Whether anybody may read its objects.
    pub public: bool,
    /// The largest object in bytes.
    pub file_size_limit: Option<i64>,
    /// The types it takes; all, if none are given.
    pub allowed_mime_types: Option<Vec<String>>,
    kind: String,
    created_at: Option<OffsetDateTime>,
    updated_at: Option<OffsetDateTime>,
}

impl Bucket {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            // Clients are promised a string.
            "owner": self.owner.map(|owner| owner.to_string()).unwrap_or_default(),
            "public": self.public,
            "file_size_limit": self.file_size_limit,
            "allowed_mime_types": self.allowed_mime_types,
            "created_at": self.created_at.map(iso),
            "updated_at": self.updated_at.map(iso),
        })
    }
}

impl<'r> FromRow<'r, PgRow> for Bucket {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            owner: row.try_get("owner")?,
            public: row.try_get::<Option<bool>, _>("public")?.unwrap_or_default(),
            file_size_limit: row.try_get("file_size_limit")?,
            allowed_mime_types: row.try_get("allowed_mime_types")?,
            kind: row.try_get("kind")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

impl Storage {
    /// A bucket, whoever asks: what it takes and whether it is public is no secret to the service.
    pub async fn bucket(&self, id: &str) -> Result<Bucket> {
        sqlx::query_as("select *, type::text as kind from storage.buckets where id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?
            .ok_or(Error::NoSuchBucket)
    }

    /// A bucket's limit, which cannot exceed the service's.
    fn checked_size(&self, size: Option<Size>) -> Result<Option<i64>> {
        let Some(size) = size else { return Ok(None) };
        let bytes = size.bytes()?;
        if u64::try_from(bytes).is_ok_and(|bytes| bytes > self.settings.file_size_limit) {
            return Err(Error::EntityTooLarge);
        }
        Ok(Some(bytes))
    }
}

/// The body of `POST /bucket`.
#[derive(Debug, Deserialize)]
pub struct NewBucket {
    name: String,
    id: Option<String>,
    #[serde(default)]
    public: Option<bool>,
    #[serde(default)]
    file_size_limit: Option<Size>,
    #[serde(default)]
    allowed_mime_types: Option<Vec<String>>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

/// `POST /bucket`
pub async fn create(storage: &Storage, call: &Call, wanted: NewBucket) -> Result<Response> {
    call.claims()?;
    check_bucket_name(&wanted.name)?;
    let id = wanted.id.as_deref().unwrap_or(&wanted.name);
    check_bucket_name(id)?;
    if wanted.kind.as_deref().is_some_and(|kind| kind != "STANDARD") {
        return Err(Error::invalid("only buckets of type STANDARD are supported"));
    }
    check_mime_rules(wanted.allowed_mime_types.as_deref().unwrap_or_default())?;
    let owner = call.subject()?;
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.bucket.create")
        .await?;
    sqlx::query(include_str!("../../../sql/gateway/storage_insert_bucket.sql"))
        .bind(id)
        .bind(&wanted.name)
        .bind(owner_uuid(owner))
        .bind(owner)
        .bind(wanted.public.unwrap_or_default())
        .bind(storage.checked_size(wanted.file_size_limit)?)
        .bind(wanted.allowed_mime_types)
        .execute(&mut *transaction)
        .await
        .map_err(|error| match error.into() {
            Error::KeyAlreadyExists => Error::BucketAlreadyExists,
            error => error,
        })?;
    transaction.commit().await?;
    Ok(Json(json!({ "name": wanted.name })).into_response())
}

/// The query of `GET /bucket`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketSearch {
    limit: Option<i64>,
    offset: Option<i64>,
    sort_column: Option<String>,
    sort_order: Option<String>,
    search: Option<String>,
}

/// `GET /bucket`
pub async fn list(storage: &Storage, call: &Call, search: BucketSearch) -> Result<Response> {
    let column = search.sort_column.as_deref().unwrap_or("name");
    if !["id", "name", "created_at", "updated_at"].contains(&column) {
        return Err(Error::Validation(
            "querystring/sortColumn must be equal to one of the allowed values".into(),
        ));
    }
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.bucket.list")
        .await?;
    let buckets: Vec<Bucket> = sqlx::query_as(include_str!("../../../sql/gateway/storage_list_buckets.sql"))
        .bind(search.search)
        .bind(column)
        .bind(
            search
                .sort_order
                .is_some_and(|order| order.eq_ignore_ascii_case("desc")),
        )
        .bind(search.limit.map(|limit| limit.max(0)))
        .bind(search.offset.unwrap_or_default().max(0))
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let buckets: Vec<Value> = buckets
        .iter()
        .map(|bucket| {
            let mut shown = bucket.to_json();
            shown["type"] = bucket.kind.as_str().into();
            shown
        })
        .collect();
    Ok(Json(buckets).into_response())
}

/// `GET /bucket/{id}`
pub async fn get(storage: &Storage, call: &Call, id: &str) -> Result<Response> {
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.bucket.get")
        .await?;
    let bucket: Option<Bucket> = sqlx::query_as("select *, type::text as kind from storage.buckets where id = $1")
        .bind(id)
        .fetch_optional(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Json(bucket.ok_or(Error::NoSuchBucket)?.to_json()).into_response())
}

/// The body of `PUT /bucket/{id}`; what is absent stays, null clears.
#[derive(Debug, Deserialize)]
pub struct BucketChange {
    public: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    file_size_limit: Option<Option<Size>>,
    #[serde(default, deserialize_with = "present")]
    allowed_mime_types: Option<Option<Vec<String>>>,
}

/// `PUT /bucket/{id}`
pub async fn update(storage: &Storage, call: &Call, id: &str, change: BucketChange) -> Result<Response> {
    if change.public.is_none() && change.file_size_limit.is_none() && change.allowed_mime_types.is_none() {
        return Err(Error::Validation("body must NOT have fewer than 1 properties".into()));
    }
    let (limits, types) = (change.file_size_limit.is_some(), change.allowed_mime_types.is_some());
    let rules = change.allowed_mime_types.flatten();
    check_mime_rules(rules.as_deref().unwrap_or_default())?;
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.bucket.update")
        .await?;
    let updated = sqlx::query(include_str!("../../../sql/gateway/storage_update_bucket.sql"))
        .bind(id)
        .bind(change.public)
        .bind(limits)
        .bind(storage.checked_size(change.file_size_limit.flatten())?)
        .bind(types)
        .bind(rules)
        .execute(&mut *transaction)
        .await?;
    if updated.rows_affected() == 0 {
        return Err(Error::NoSuchBucket);
    }
    transaction.commit().await?;
    Ok(Json(json!({ "message": "Successfully updated" })).into_response())
}

/// `DELETE /bucket/{id}`; only an empty one, whoever owns what is in it.
pub async fn delete(storage: &Storage, call: &Call, id: &str) -> Result<Response> {
    const OPERATION: &str = "storage.bucket.delete";
    call.claims()?;
    let mut transaction = call.begin(&storage.pool, Identity::Service, OPERATION).await?;
    let found: Option<(bool,)> = sqlx::query_as(include_str!("../../../sql/gateway/storage_lock_bucket.sql"))
        .bind(id)
        .fetch_optional(&mut *transaction)
        .await?;
    let (empty,) = found.ok_or(Error::NoSuchBucket)?;
    if !empty {
        return Err(Error::BucketNotEmpty);
    }
    call.act_as(&mut transaction, Identity::Caller, OPERATION).await?;
    let deleted = sqlx::query("delete from storage.buckets where id = $1")
        .bind(id)
        .execute(&mut *transaction)
        .await?;
    if deleted.rows_affected() == 0 {
        return Err(Error::NoSuchBucket);
    }
    transaction.commit().await?;
    Ok(Json(json!({ "message": "Successfully deleted" })).into_response())
}

/// `POST /bucket/{id}/empty`, for the service key alone. It is done when the answer comes; the words are Supabase's.
pub async fn empty(storage: &Storage, call: &Call, id: &str) -> Result<Response> {
    if call.claims()?.role() != Some("service_role") {
        return Err(Error::ServiceRoleOnly);
    }
    storage.bucket(id).await?;
    loop {
        let mut transaction = call
            .begin(&storage.pool, Identity::Caller, "storage.bucket.empty")
            .await?;
        let deleted = sqlx::query(include_str!("../../../sql/gateway/storage_empty_bucket.sql"))
            .bind(id)
            .bind(BATCH)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        storage.sweep.notify_one();
        if deleted.rows_affected() == 0 {
            break;
        }
    }
    let message = "Empty bucket has been queued. Completion may take up to an hour.";
    Ok(Json(json!({ "message": message })).into_response())
}
