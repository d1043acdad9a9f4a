//! Listing objects: one level of folders, or pages behind a cursor.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{FromRow, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Storage,
    call::{Call, Identity},
    error::{Error, Result},
    objects::iso,
};

/// A file, or a folder, of which only the name is known.
struct Entry {
    name: String,
    id: Option<Uuid>,
    updated_at: Option<OffsetDateTime>,
    created_at: Option<OffsetDateTime>,
    last_accessed_at: Option<OffsetDateTime>,
    metadata: Option<Value>,
}

impl<'r> FromRow<'r, PgRow> for Entry {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            name: row.try_get("name")?,
            id: row.try_get("id")?,
            updated_at: row.try_get("updated_at")?,
            created_at: row.try_get("created_at")?,
            last_accessed_at: row.try_get("last_accessed_at")?,
            metadata: row.try_get("metadata")?,
        })
    }
}

impl Entry {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "id": self.id,
            "updated_at": self.updated_at.map(iso),
            "created_at": self.created_at.map(iso),
            "last_accessed_at": self.last_accessed_at.map(iso),
            "metadata": self.metadata,
        })
    }
}

/// What to sort by.
#[derive(Debug, Default, Deserialize)]
pub struct Sort {
    column: Option<String>,
    order: Option<String>,
}

impl Sort {
    fn column(&self, allowed: &[&'static str]) -> Result<&'static str> {
        let column = self.column.as_deref().unwrap_or("name");
        let known = allowed.iter().find(|known| **known == column).copied();
        known.ok_or_else(|| Error::Validation("body/sortBy/column must be equal to one of the allowed values".into()))
    }

    fn order(&self) -> Order {
        match self.order.as_deref() {
            Some(order) if order.eq_ignore_ascii_case("desc") => Order::Desc,
            _ => Order::Asc,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

/// The body of `POST /object/list/{bucket}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    prefix: String,
    limit: Option<i32>,
    offset: Option<i32>,
    search: Option<String>,
    #[serde(default)]
    sort_by: Option<Sort>,
}

/// `POST /object/list/{bucket}`: files and folders right below a folder.
pub async fn list(storage: &Storage, call: &Call, bucket: &str, wanted: Listing) -> Result<Response> {
    let sort = wanted.sort_by.unwrap_or_default();
    let column = sort.column(&["name", "updated_at", "created_at", "last_accessed_at"])?;
    let limit = wanted.limit.unwrap_or(100);
    if limit < 1 {
        return Err(Error::Validation("body/limit must be >= 1".into()));
    }
    let prefix = match wanted.prefix.as_str() {
        "" => String::new(),
        prefix if prefix.ends_with('/') => prefix.to_owned(),
        prefix => format!("{prefix}/"),
    };
    let order = if sort.order() == Order::Desc { "desc" } else { "asc" };
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.object.list")
        .await?;
    let entries: Vec<Entry> = sqlx::query_as("select * from storage.search($1, $2, $3, 1, $4, $5, $6, $7)")
        .bind(prefix)
        .bind(bucket)
        .bind(limit)
        .bind(wanted.offset.unwrap_or_default().max(0))
        .bind(wanted.search.unwrap_or_default())
        .bind(column)
        .bind(order)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let entries: Vec<Value> = entries.iter().map(Entry::to_json).collect();
    Ok(Json(entries).into_response())
}

/// The body of `POST /object/list-v2/{bucket}`.
#[derive(Debug, Deserialize)]
pub struct ListingV2 {
    #[serde(default)]
    prefix: String,
    limit: Option<i64>,
    cursor: Option<String>,
    #[serde(default)]
    with_delimiter: bool,
    #[serde(default, rename = "sortBy")]
    sort_by: Option<Sort>,
}

/// Where a page ended; clients hand it back unread.
#[derive(Debug, Deserialize, Serialize)]
struct Cursor {
    column: String,
    order: Order,
    /// The last entry's key.
    key: String,
    /// Its time in microseconds since 1970 where times are sorted by; folders have none.
    time: Option<i64>,
}

impl Cursor {
    fn decode(text: &str) -> Result<Self> {
        let bytes = BASE64_STANDARD.decode(text).ok();
        bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or(Error::invalid("Invalid cursor"))
    }

    fn encode(&self) -> String {
        BASE64_STANDARD.encode(json!(self).to_string())
    }
}

/// `POST /object/list-v2/{bucket}`: keys in order, page by page; with a delimiter, folders count as one key.
pub async fn list_v2(storage: &Storage, call: &Call, bucket: &str, wanted: ListingV2) -> Result<Response> {
    let limit = wanted.limit.unwrap_or(1_000).clamp(1, 1_000);
    let cursor = wanted.cursor.as_deref().map(Cursor::decode).transpose()?;
    let sort = wanted.sort_by.unwrap_or_default();
    let (column, order) = match &cursor {
        Some(cursor) => (cursor.column.as_str(), cursor.order),
        None => (sort.column(&["name", "created_at", "updated_at"])?, sort.order()),
    };
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.object.list_v2")
        .await?;
    let mut entries: Vec<Entry> = sqlx::query_as(include_str!("../../../sql/gateway/storage_list_v2.sql"))
        .bind(bucket)
        .bind(&wanted.prefix)
        .bind(wanted.with_delimiter)
        .bind(column)
        .bind(order == Order::Desc)
        .bind(cursor.as_ref().map(|cursor| cursor.key.as_str()))
        .bind(cursor.as_ref().map(|cursor| cursor.time.unwrap_or_default()))
        .bind(limit + 1)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let limit = usize::try_from(limit).expect("a limit lies between 1 and 1000");
    let has_next = entries.len() > limit;
    entries.truncate(limit);

    let mut reply = json!({ "hasNext": has_next, "folders": [], "objects": [] });
    if let (true, Some(last)) = (has_next, entries.last()) {
        let time = match column {
            "created_at" => last.created_at,
            "updated_at" => last.updated_at,
            _ => None,
        };
        let cursor = Cursor {
            column: column.to_owned(),
            order,
            key: last.name.clone(),
            time: time.and_then(|time| i64::try_from(time.unix_timestamp_nanos() / 1_000).ok()),
        };
        reply["nextCursor"] = cursor.encode().into();
        reply["nextCursorKey"] = last.name.as_str().into();
    }
    for entry in &entries {
        let mut shown = entry.to_json();
        let list = if entry.id.is_some() { "objects" } else { "folders" };
        shown["key"] = entry.name.trim_end_matches('/').into();
        if let Some(list) = reply[list].as_array_mut() {
            list.push(shown);
        }
    }
    Ok(Json(reply).into_response())
}
