//! What goes wrong, in Supabase's codes and words.
//!
//! Nearly every error is answered with HTTP 400 and names its real status in the body's `statusCode`: that is the
//! contract, and storage-js reads the body.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such bucket, or none the caller may see.
    #[error("Bucket not found")]
    NoSuchBucket,
    /// No such object, or none the caller may see.
    #[error("Object not found")]
    NoSuchKey,
    /// The object's row is there, its bytes are not.
    #[error("The resource was not found")]
    NoSuchBlob,
    /// A bad token, or a policy that says no.
    #[error("{0}")]
    AccessDenied(Cow<'static, str>),
    /// Only the service key may do this.
    #[error("Access denied: Invalid role")]
    ServiceRoleOnly,
    /// A signed URL's token cannot be verified or has ended.
    #[error("{0}")]
    InvalidJwt(Cow<'static, str>),
    /// A signed URL's token is for something else.
    #[error("{0}")]
    InvalidSignature(&'static str),
    /// An object has that key and the caller did not ask to replace it.
    #[error("The resource already exists")]
    KeyAlreadyExists,
    /// A bucket has that name.
    #[error("The resource already exists")]
    BucketAlreadyExists,
    /// Only empty buckets are deleted.
    #[error("The bucket you tried to delete is not empty")]
    BucketNotEmpty,
    /// More bytes than the bucket or the service takes.
    #[error("The object exceeded the maximum allowed size")]
    EntityTooLarge,
    /// More JSON than any request needs.
    #[error("Request body is too large")]
    BodyTooLarge,
    /// A type of file the bucket does not take.
    #[error("mime type {0} is not supported")]
    InvalidMimeType(String),
    /// Characters that keys do not have.
    #[error("Invalid key: {0}")]
    InvalidKey(String),
    /// Characters that bucket names do not have.
    #[error("Bucket name invalid")]
    InvalidBucketName,
    /// The request makes no sense, and why.
    #[error("{0}")]
    InvalidRequest(Cow<'static, str>),
    /// A field of the body, the query or the headers is missing or wrong.
    #[error("{0}")]
    Validation(String),
    /// The asked bytes are not in the file.
    #[error("invalid range provided")]
    InvalidRange,
    /// Somebody else works on the object.
    #[error("The resource is locked")]
    Locked,
    /// The row refers to a bucket that is gone.
    #[error("The related resource does not exist")]
    NoRelated,
    /// The database did not answer in time.
    #[error("The connection to the database timed out")]
    DatabaseTimeout,
    /// A policy names a column or table that does not exist, or itself.
    #[error("{0}")]
    BrokenPolicy(String),
    /// A path of a known part of the API that does not exist.
    #[error("Route {0} not found")]
    NoSubRoute(String),
    /// A path that does not exist.
    #[error("Route {0} not found")]
    NoRoute(String),
    /// The client stopped sending.
    #[error("The request's body ended early")]
    Interrupted,
    /// The database failed in a way no caller can mend.
    #[error("Internal Server Error")]
    Database(#[source] sqlx::Error),
    /// The store of blobs failed.
    #[error("Internal Server Error")]
    Blobs(#[from] object_store::Error),
    /// A token could not be signed.
    #[error("Internal Server Error")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

/// Shorthand of this module's neighbours.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A policy's or a token's refusal.
    pub fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::AccessDenied(message.into())
    }

    /// A request that makes no sense.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidRequest(message.into())
    }

    /// HTTP status, the body's `statusCode`, `code` and `error`.
    fn wire(&self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Self::NoSuchBucket => (400, "404", "NoSuchBucket", "Bucket not found"),
            Self::NoSuchKey => (400, "404", "NoSuchKey", "not_found"),
            Self::NoSuchBlob => (400, "404", "NoSuchKey", "Not found"),
            Self::AccessDenied(_) => (400, "403", "AccessDenied", "Unauthorized"),
            Self::ServiceRoleOnly => (403, "403", "AccessDenied", "Unauthorized"),
            Self::InvalidJwt(_) => (400, "400", "InvalidJWT", "InvalidJWT"),
            Self::InvalidSignature(_) => (400, "400", "InvalidSignature", "InvalidSignature"),
            Self::KeyAlreadyExists => (400, "409", "KeyAlreadyExists", "Duplicate"),
            Self::BucketAlreadyExists => (400, "409", "BucketAlreadyExists", "Duplicate"),
            Self::BucketNotEmpty => (400, "409", "ResourceNotEmpty", "ResourceNotEmpty"),
            Self::EntityTooLarge => (400, "413", "EntityTooLarge", "Payload too large"),
            Self::BodyTooLarge => (413, "413", "EntityTooLarge", "Payload too large"),
            Self::InvalidMimeType(_) => (400, "415", "InvalidMimeType", "invalid_mime_type"),
            Self::InvalidKey(_) => (400, "400", "InvalidKey", "InvalidKey"),
            Self::InvalidBucketName => (400, "400", "InvalidBucketName", "Invalid Input"),
            Self::InvalidRequest(_) | Self::Interrupted => (400, "400", "InvalidRequest", "InvalidRequest"),
            Self::Validation(_) => (400, "400", "InvalidRequest", "Error"),
            Self::InvalidRange => (416, "416", "InvalidRange", "invalid_range"),
            Self::Locked => (400, "423", "ResourceLocked", "ResourceLocked"),
            Self::NoRelated => (400, "404", "InvalidRequest", "InvalidRequest"),
            Self::DatabaseTimeout => (544, "544", "DatabaseTimeout", "DatabaseTimeout"),
            Self::BrokenPolicy(_) => (400, "503", "DatabaseSchemaMismatch", "DatabaseSchemaMismatch"),
            Self::NoSubRoute(_) | Self::NoRoute(_) => (404, "404", "InvalidRequest", "Not Found"),
            Self::Database(_) | Self::Blobs(_) | Self::Signing(_) => (500, "500", "InternalError", "Internal"),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::DatabaseTimeout;
        }
        let Some(refusal) = error.as_database_error() else {
            return Self::Database(error);
        };
        let message = refusal.message();
        match refusal.code().as_deref() {
            Some("42501") => {
                // The policy's table is nothing a client should learn.
                const VIOLATION: &str = "new row violates row-level security policy";
                if message.starts_with(VIOLATION) {
                    Self::denied(VIOLATION)
                } else {
                    Self::denied(message.to_owned())
                }
            }
            // `role "…" does not exist`: the token names none of ours.
            Some("22023") => Self::denied(message.to_owned()),
            // A NUL, or a folder that a policy cannot cast to the uuid it expects.
            Some(code) if code.starts_with("22") => Self::invalid("The request holds a value the database refuses"),
            // A trigger of the project's own says no, in words meant for clients.
            Some("P0001") => Self::invalid(message.to_owned()),
            Some("23505") => Self::KeyAlreadyExists,
            Some("23503") => Self::NoRelated,
            Some("55P03" | "40P01" | "40001") => Self::Locked,
            Some("57014") => Self::DatabaseTimeout,
            Some("42703" | "42P01" | "42P17") => Self::BrokenPolicy(message.to_owned()),
            _ => Self::Database(error),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, status_code, code, error) = self.wire();
        match &self {
            Self::Database(cause) => tracing::error!(error = %cause, "storage: the database failed"),
            Self::Blobs(cause) => tracing::error!(error = %cause, "storage: the store of blobs failed"),
            Self::Signing(cause) => tracing::error!(error = %cause, "storage: a token could not be signed"),
            _ => {}
        }
        let mut body = json!({ "statusCode": status_code, "error": error, "message": self.to_string(), "code": code });
        if let (Self::NoRoute(_), Some(body)) = (&self, body.as_object_mut()) {
            body.remove("code");
            body.insert("statusCode".into(), 404.into());
        }
        let status = StatusCode::from_u16(status).expect("the table above holds HTTP statuses");
        let mut response = (status, Json(body)).into_response();
        if matches!(self, Self::NoSuchBlob) {
            // A cache must not outlive an outage of the store.
            response
                .headers_mut()
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        response
    }
}
