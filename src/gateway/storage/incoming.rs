//! An upload on its way in: a form (what browsers' files become) or the bytes themselves.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use multer::{Field, Multipart};
use serde_json::{Value, json};

use super::error::{Error, Result};

/// A form's fields besides the file.
const MOST_FIELDS: usize = 10;
/// A field's longest text; custom metadata is the largest.
const LONGEST_FIELD: usize = 1 << 20;

/// What is uploaded.
pub struct Incoming {
    /// Its content type.
    pub content_type: String,
    /// `Cache-Control` of downloads.
    pub cache_control: String,
    /// What the uploader says about it, JSON.
    pub user_metadata: Value,
    /// `X-Robots-Tag` of downloads.
    pub robots: Option<String>,
    /// `Content-Encoding` of downloads.
    pub encoding: Option<String>,
    /// The body's length in bytes where the client tells it; of a form, a little more than the file's.
    pub length: Option<u64>,
    /// Whether `length` is the file's own.
    pub exact: bool,
    /// The bytes.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

impl Incoming {
    /// Reads an upload up to its first byte.
    ///
    /// # Errors
    /// When it holds no file, or something about it makes no sense.
    pub async fn read(headers: &HeaderMap, body: Body) -> Result<Self> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let bytes = body.into_data_stream().map_err(|_| Error::Interrupted).boxed();
        let content_type = text(header::CONTENT_TYPE).unwrap_or("application/octet-stream");
        let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let robots = text(header::HeaderName::from_static("x-robots-tag")).map(str::to_owned);
        if content_type.starts_with("multipart/form-data") {
            let boundary = multer::parse_boundary(content_type).map_err(form)?;
            let incoming = read_form(Multipart::new(bytes, boundary)).await?;
            return Ok(Self {
                robots,
                length,
                ..incoming
            });
        }
        let user_metadata = match text(header::HeaderName::from_static("x-metadata")) {
            None => json!({}),
            Some(encoded) => BASE64_STANDARD
                .decode(encoded)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .ok_or(Error::invalid("x-metadata is not base64-encoded JSON"))?,
        };
        Ok(Self {
            content_type: content_type.to_owned(),
            cache_control: text(header::CACHE_CONTROL).unwrap_or("no-cache").to_owned(),
            user_metadata,
            robots,
            encoding: text(header::CONTENT_ENCODING).map(str::to_owned),
            length,
            exact: true,
            bytes,
        })
    }
}

/// Fields come before the file: what follows it is not looked at.
async fn read_form(mut parts: Multipart<'static>) -> Result<Incoming> {
    let mut content_type = None;
    let mut cache_control = "no-cache".to_owned();
    let mut user_metadata = json!({});
    let mut encoding = None;
    for _ in 0..=MOST_FIELDS {
        let field = parts.next_field().await.map_err(form)?;
        let field = field.ok_or(Error::invalid("No content provided"))?;
        let own_type = field.content_type().map(ToString::to_string);
        if field.file_name().is_some() || own_type.as_deref() == Some("application/octet-stream") {
            let content_type = content_type.or(own_type);
            return Ok(Incoming {
                content_type: content_type.unwrap_or_else(|| "application/octet-stream".into()),
                cache_control,
                user_metadata,
                robots: None,
                encoding,
                length: None,
                exact: false,
                bytes: chunks(field),
            });
        }
        match field.name() {
            Some("cacheControl") => cache_control = format!("max-age={}", header_text(field).await?),
            Some("contentType") => content_type = Some(header_text(field).await?),
            Some("contentEncoding") => encoding = Some(header_text(field).await?),
            Some("metadata" | "userMetadata") => {
                user_metadata = serde_json::from_str(&text(field).await?)
                    .map_err(|_| Error::invalid("the field metadata is not JSON"))?;
            }
            _ => drop(text(field).await?),
        }
    }
    Err(Error::invalid("reach fields limit"))
}

fn chunks(field: Field<'static>) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold(field, |mut field| async move {
        let chunk = field.chunk().await.map_err(form)?;
        Ok(chunk.map(|chunk| (chunk, field)))
    })
    .boxed()
}

async fn text(mut field: Field<'static>) -> Result<String> {
    let mut text = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(form)? {
        text.extend_from_slice(&chunk);
        if text.len() > LONGEST_FIELD {
            return Err(Error::EntityTooLarge);
        }
    }
    String::from_utf8(text).map_err(|_| Error::invalid("a field of the form is not UTF-8"))
}

/// Text that downloads will carry in a header.
async fn header_text(field: Field<'static>) -> Result<String> {
    let text = text(field).await?;
    match HeaderValue::from_str(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(Error::invalid(
            "a field of the form holds characters a header cannot have",
        )),
    }
}

fn form(error: multer::Error) -> Error {
    match error {
        multer::Error::StreamReadFailed(_)
        | multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders
        | multer::Error::IncompleteStream => Error::Interrupted,
        error => Error::invalid(error.to_string()),
    }
}
