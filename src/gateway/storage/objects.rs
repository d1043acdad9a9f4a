//! Objects: their rows in `storage.objects`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{FromRow, PgExecutor, Row, postgres::PgRow};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use uuid::Uuid;

use super::error::{Error, Result};

/// A row of `storage.objects`.
#[derive(Debug)]
pub struct Object {
    /// Stays the same when the object is replaced, moved or renamed.
    pub id: Uuid,
    /// Its bucket.
    pub bucket_id: String,
    /// Its key.
    pub name: String,
    /// What its blob is called; changes with the bytes.
    pub version: Option<String>,
    /// Whoever uploaded it, if that id is a UUID.
    pub owner: Option<Uuid>,
    /// Whoever uploaded it.
    pub owner_id: Option<String>,
    /// When its key was first written.
    pub created_at: Option<OffsetDateTime>,
    /// When the row last changed.
    pub updated_at: Option<OffsetDateTime>,
    /// Kept for compatibility.
    pub last_accessed_at: Option<OffsetDateTime>,
    /// What the service knows about the bytes, as stored: SQL may have written anything.
    pub metadata: Option<Value>,
    /// What the uploader said about them.
    pub user_metadata: Option<Value>,
}

/// `storage.objects.metadata`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// MD5 of the bytes, in double quotes.
    pub e_tag: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// The content type.
    pub mimetype: Option<String>,
    /// `Cache-Control` of downloads.
    pub cache_control: Option<String>,
    /// When the bytes were written, ISO 8601.
    pub last_modified: Option<String>,
    /// Bytes, again.
    pub content_length: Option<u64>,
    /// 200.
    pub http_status_code: Option<u16>,
    /// `X-Robots-Tag` of downloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x_robots_tag: Option<String>,
    /// `Content-Encoding` of downloads: the uploader compressed the bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
}

impl Object {
    /// What the service knows about the bytes; nothing if the row says nothing of use.
    pub fn facts(&self) -> Metadata {
        self.metadata
            .as_ref()
            .and_then(|metadata| Metadata::deserialize(metadata).ok())
            .unwrap_or_default()
    }

    /// What its blob is called.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] when the row names none of ours.
    pub fn blob(&self) -> Result<Uuid> {
        let version = self.version.as_deref().unwrap_or_default();
        Uuid::parse_str(version).map_err(|_| Error::NoSuchBlob)
    }

    /// When the bytes were written.
    pub fn modified(&self) -> OffsetDateTime {
        let written = self.facts().last_modified;
        written
            .and_then(|text| OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339).ok())
            .or(self.updated_at)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The row as the API shows it.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "bucket_id": self.bucket_id,
            "owner": self.owner,
            "owner_id": self.owner_id,
            "version": self.version,
            "created_at": self.created_at.map(iso),
            "updated_at": self.updated_at.map(iso),
            "last_accessed_at": self.last_accessed_at.map(iso),
            "metadata": self.metadata,
            "user_metadata": self.user_metadata,
        })
    }
}

impl<'r> FromRow<'r, PgRow> for Object {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            bucket_id: row.try_get("bucket_id")?,
            name: row.try_get("name")?,
            version: row.try_get("version")?,
            owner: row.try_get("owner")?,
            owner_id: row.try_get("owner_id")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            last_accessed_at: row.try_get("last_accessed_at")?,
            metadata: row.try_get("metadata")?,
            user_metadata: row.try_get("user_metadata")?,
        })
    }
}

/// The object of that key, if whoever runs the statement may see it.
///
/// # Errors
/// [`Error::NoSuchKey`]
pub async fn find(database: impl PgExecutor<'_>, bucket: &str, key: &str) -> Result<Object> {
    sqlx::query_as("select * from storage.objects where bucket_id = $1 and name = $2")
        .bind(bucket)
        .bind(key)
        .fetch_optional(database)
        .await?
        .ok_or(Error::NoSuchKey)
}

/// A time as the API writes it: UTC, milliseconds, `Z`.
pub fn iso(time: OffsetDateTime) -> String {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    time.to_offset(time::UtcOffset::UTC)
        .format(FORMAT)
        .expect("the format asks for nothing a time lacks")
}
