//! Downloads: the bytes, their headers alone, or what is known about them.

use std::ops::Range;

use axum::{
    Json,
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use time::{OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::{
    Storage,
    call::{Call, Identity},
    error::{Error, Result},
    objects::{self, Metadata, Object, iso},
};

/// Who may read an object by a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, out of a public bucket only.
    Public,
    /// Who has a token; out of a private bucket, if policies permit it.
    Authenticated,
    /// Anybody out of a public bucket, else as [`Access::Authenticated`].
    PublicOrAuthenticated,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The bytes.
    Bytes,
    /// The headers the bytes would have.
    Headers,
    /// What is known about the object, JSON.
    Info,
}

impl Answer {
    /// What a path of the object itself answers.
    pub fn content(method: &Method) -> Self {
        if method == Method::HEAD {
            Self::Headers
        } else {
            Self::Bytes
        }
    }

    /// What a path of the object's information answers.
    pub fn info(method: &Method) -> Self {
        if method == Method::HEAD {
            Self::Headers
        } else {
            Self::Info
        }
    }
}

/// The query of a download.
#[derive(Debug, Deserialize)]
pub struct DownloadQuery {
    /// Asks the browser to save the file, under this name if it is not empty.
    download: Option<String>,
}

/// `GET` and `HEAD` of `/object/...` and `/object/info/...`
pub async fn download(
    storage: &Storage,
    call: &Call,
    access: Access,
    answer: Answer,
    bucket: &str,
    key: &str,
    query: DownloadQuery,
) -> Result<Response> {
    if access == Access::Authenticated {
        call.claims()?;
    }
    let public = storage.bucket(bucket).await?.public;
    let object = if public {
        objects::find(&storage.pool, bucket, key).await?
    } else if access == Access::Public || call.claims().is_err() {
        return Err(Error::NoSuchBucket);
    } else {
        let operation = match answer {
            Answer::Bytes => "storage.object.get_authenticated",
            Answer::Headers => "object.head_authenticated_info",
            Answer::Info => "object.get_authenticated_info",
        };
        let mut transaction = call.begin(&storage.pool, Identity::Caller, operation).await?;
        let object = objects::find(&mut *transaction, bucket, key).await?;
        transaction.commit().await?;
        object
    };
    match answer {
        Answer::Info => Ok(info(&object)),
        _ => {
            respond(
                storage,
                call.headers(),
                &object,
                answer,
                query.download.as_deref(),
                None,
            )
            .await
        }
    }
}

/// An object's bytes or headers, in whole or in part, unless the client has them already. `save_as` is the query's
/// `download`; a signed URL's answer says when it `expires`.
pub async fn respond(
    storage: &Storage,
    asked: &HeaderMap,
    object: &Object,
    answer: Answer,
    save_as: Option<&str>,
    expires: Option<OffsetDateTime>,
) -> Result<Response> {
    let version = object.blob()?;
    let facts = object.facts();
    let modified = object.modified();
    let mut headers = describe(&facts, modified, save_as, expires);
    if has_already(asked, facts.e_tag.as_deref(), modified) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let size = match facts.size {
        Some(size) => size,
        None => storage.blobs.size(version).await?,
    };
    let range = match asked.get(header::RANGE) {
        Some(range) if answer == Answer::Bytes && range_applies(asked, facts.e_tag.as_deref(), modified) => {
            let range = range.to_str().ok().and_then(|range| parse_range(range, size));
            Some(range.ok_or(Error::InvalidRange)?)
        }
        _ => None,
    };
    let mut status = StatusCode::OK;
    if let Some(range) = &range {
        status = StatusCode::PARTIAL_CONTENT;
        let shown = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        insert(&mut headers, header::CONTENT_RANGE, &shown);
    }
    let (length, body) = match answer {
        Answer::Bytes => {
            let (length, bytes) = storage.blobs.read(version, range).await?;
            (length, Body::from_stream(bytes))
        }
        Answer::Headers | Answer::Info => (size, Body::empty()),
    };
    headers.insert(header::CONTENT_LENGTH, length.into());
    Ok((status, headers, body).into_response())
}

fn info(object: &Object) -> Response {
    let facts = object.facts();
    Json(json!({
        "id": object.id,
        "name": object.name,
        "version": object.version,
        "bucket_id": object.bucket_id,
        "size": facts.size,
        "content_type": facts.mimetype,
        "cache_control": facts.cache_control,
        "etag": facts.e_tag,
        "metadata": object.user_metadata,
        "last_modified": object.updated_at.map(iso),
        "created_at": object.created_at.map(iso),
    }))
    .into_response()
}

fn describe(
    facts: &Metadata,
    modified: OffsetDateTime,
    save_as: Option<&str>,
    expires: Option<OffsetDateTime>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let content_type = facts.mimetype.as_deref().unwrap_or("application/octet-stream");
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Uploads are anybody's: none of them may run scripts in the API's origin.
    if content_type.to_ascii_lowercase().contains("text/html") {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    } else {
        insert(&mut headers, header::CONTENT_TYPE, content_type);
        if content_type.to_ascii_lowercase().contains("xml") {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        }
    }
    if let Some(etag) = &facts.e_tag {
        insert(&mut headers, header::ETAG, etag);
    }
    if let Some(encoding) = &facts.content_encoding {
        insert(&mut headers, header::CONTENT_ENCODING, encoding);
    }
    let robots = facts.x_robots_tag.as_deref().unwrap_or("none");
    insert(&mut headers, HeaderName::from_static("x-robots-tag"), robots);
    insert(&mut headers, header::LAST_MODIFIED, &http_date(modified));
    match expires {
        Some(expires) => insert(&mut headers, header::EXPIRES, &http_date(expires)),
        None => insert(
            &mut headers,
            header::CACHE_CONTROL,
            facts.cache_control.as_deref().unwrap_or("no-cache"),
        ),
    }
    match save_as {
        None => {}
        Some("") => insert(&mut headers, header::CONTENT_DISPOSITION, "attachment;"),
        Some(name) => {
            let name = utf8_percent_encode(name, NOT_IN_FILENAME);
            let value = format!("attachment; filename={name}; filename*=UTF-8''{name}");
            insert(&mut headers, header::CONTENT_DISPOSITION, &value);
        }
    }
    headers
}

/// What JavaScript's `encodeURIComponent` encodes.
const NOT_IN_FILENAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Leaves a header out whose stored value no header can have.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether the client's copy is the current one. A tag decides if it sent one, as HTTP wants.
fn has_already(asked: &HeaderMap, etag: Option<&str>, modified: OffsetDateTime) -> bool {
    if let Some(known) = asked.get(header::IF_NONE_MATCH) {
        let Ok(known) = known.to_str() else { return false };
        return known
            .split(',')
            .map(|tag| tag.trim())
            .any(|tag| tag == "*" || Some(tag.trim_start_matches("W/")) == etag);
    }
    let since = asked.get(header::IF_MODIFIED_SINCE).and_then(parse_http_date);
    since.is_some_and(|since| modified.unix_timestamp() <= since.unix_timestamp())
}

/// Whether the rest of a file that began under `If-Range` is still a rest of this one.
fn range_applies(asked: &HeaderMap, etag: Option<&str>, modified: OffsetDateTime) -> bool {
    let Some(condition) = asked.get(header::IF_RANGE) else {
        return true;
    };
    match parse_http_date(condition) {
        Some(date) => date.unix_timestamp() == modified.unix_timestamp(),
        None => condition.to_str().ok() == etag && etag.is_some(),
    }
}

/// One range of bytes, clamped to the file; `None` if it is malformed, not one range, or outside.
fn parse_range(range: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = match (first, last) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => number(first)?..number(last)?.saturating_add(1).min(size),
    };
    (range.start < range.end).then_some(range)
}

const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

fn http_date(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC)
        .format(HTTP_DATE)
        .expect("the format asks for nothing a time lacks")
}

fn parse_http_date(value: &HeaderValue) -> Option<OffsetDateTime> {
    let date = PrimitiveDateTime::parse(value.to_str().ok()?, HTTP_DATE).ok()?;
    Some(date.assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_clamped_to_the_file_or_refused() {
        assert_eq!(parse_range("bytes=0-4", 10), Some(0..5));
        assert_eq!(parse_range("bytes=5-", 10), Some(5..10));
        assert_eq!(parse_range("bytes=5-99", 10), Some(5..10));
        assert_eq!(parse_range("bytes=-3", 10), Some(7..10));
        assert_eq!(parse_range("bytes=-99", 10), Some(0..10));
        assert_eq!(parse_range("bytes=0-99999999999999999999", 10), Some(0..10));
        for refused in [
            "bytes=10-",
            "bytes=3-2",
            "bytes=-0",
            "bytes=-",
            "bytes=0-1,3-4",
            "bytes=a-b",
            "lines=0-1",
            "bytes=+1-2",
        ] {
            assert_eq!(parse_range(refused, 10), None, "{refused}");
        }
        assert_eq!(parse_range("bytes=0-", 0), None);
    }

    #[test]
    fn a_tag_outweighs_a_date() {
        let modified = OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap();
        let date = http_date(modified);
        assert_eq!(date, "Sun, 09 Sep 2001 01:46:40 GMT");
        let asked = |pairs: &[(HeaderName, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
            has_already(&pairs.collect(), Some("\"a\""), modified)
        };
        assert!(asked(&[(header::IF_NONE_MATCH, "\"b\", W/\"a\"")]));
        assert!(asked(&[(header::IF_MODIFIED_SINCE, &date)]));
        assert!(!asked(&[
            (header::IF_NONE_MATCH, "\"b\""),
            (header::IF_MODIFIED_SINCE, &date)
        ]));
        assert!(!asked(&[(header::IF_MODIFIED_SINCE, "Sun, 09 Sep 2001 01:46:39 GMT")]));
        assert!(!asked(&[]));
    }
}
