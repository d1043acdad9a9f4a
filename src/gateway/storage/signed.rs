//! Signed URLs: a token in the URL says what may be read or written, and until when.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Storage,
    body::whole_number,
    call::{self, Call, Identity},
    download::{Answer, respond},
    error::{Error, Result},
    names::check_key,
    objects,
    upload::{self, Description, Existing, Target},
};
use crate::gateway::{caller::Claims, keys::now};

/// The most objects one request signs.
const MOST_PATHS: usize = 1_000;

/// What a token permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    Download,
    Upload,
}

/// The claims of a token for downloads.
#[derive(Serialize)]
struct DownloadToken<'a> {
    url: &'a str,
    scope: Scope,
    iat: i64,
    exp: i64,
}

/// The claims of a token for an upload.
#[derive(Serialize)]
struct UploadToken<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    url: &'a str,
    upsert: bool,
    scope: Scope,
    iat: i64,
    exp: i64,
}

/// The body of `POST /object/sign/{bucket}/{key}`.
#[derive(Debug, Deserialize)]
pub struct Signing {
    #[serde(rename = "expiresIn", deserialize_with = "whole_number")]
    expires_in: i64,
}

/// `POST /object/sign/{bucket}/{key}`
pub async fn download_url(
    storage: &Storage,
    call: &Call,
    bucket: &str,
    key: &str,
    signing: Signing,
) -> Result<Response> {
    let lifetime = Lifetime::new(signing.expires_in)?;
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.object.sign")
        .await?;
    objects::find(&mut *transaction, bucket, key).await?;
    transaction.commit().await?;
    let url = storage.sign_download(bucket, key, lifetime)?;
    Ok(Json(json!({ "signedURL": url })).into_response())
}

/// The body of `POST /object/sign/{bucket}`.
#[derive(Debug, Deserialize)]
pub struct SigningMany {
    #[serde(rename = "expiresIn", deserialize_with = "whole_number")]
    expires_in: i64,
    paths: Vec<String>,
}

/// `POST /object/sign/{bucket}`: one entry for each path, in order.
pub async fn download_urls(storage: &Storage, call: &Call, bucket: &str, signing: SigningMany) -> Result<Response> {
    let lifetime = Lifetime::new(signing.expires_in)?;
    if signing.paths.is_empty() || signing.paths.len() > MOST_PATHS {
        return Err(Error::Validation(format!(
            "body/paths must have 1 to {MOST_PATHS} items"
        )));
    }
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.object.sign_many")
        .await?;
    let found: Vec<(String,)> =
        sqlx::query_as("select name from storage.objects where bucket_id = $1 and name = any($2)")
            .bind(bucket)
            .bind(&signing.paths)
            .fetch_all(&mut *transaction)
            .await?;
    transaction.commit().await?;
    let found: std::collections::HashSet<&str> = found.iter().map(|(name,)| name.as_str()).collect();
    let entries = signing.paths.iter().map(|path| {
        Ok(if found.contains(path.as_str()) {
            json!({ "error": null, "path": path, "signedURL": storage.sign_download(bucket, path, lifetime)? })
        } else {
            let error = "Either the object does not exist or you do not have access to it";
            json!({ "error": error, "path": path, "signedURL": null })
        })
    });
    Ok(Json(entries.collect::<Result<Vec<Value>>>()?).into_response())
}

/// The query of a signed URL.
#[derive(Debug, Deserialize)]
pub struct SignedQuery {
    token: String,
    download: Option<String>,
}

/// `GET` and `HEAD /object/sign/{bucket}/{key}`
pub async fn download(
    storage: &Storage,
    call: &Call,
    answer: Answer,
    bucket: &str,
    key: &str,
    query: SignedQuery,
) -> Result<Response> {
    let claims = storage.permitted(&query.token, Scope::Download, bucket, key)?;
    let object = objects::find(&storage.pool, bucket, key).await?;
    let expires = claims
        .expiry()
        .and_then(|expiry| OffsetDateTime::from_unix_timestamp(expiry).ok());
    let save_as = query.download.as_deref();
    respond(storage, call.headers(), &object, answer, save_as, expires).await
}

/// `POST /object/upload/sign/{bucket}/{key}`: policies are asked now, not when the bytes come.
pub async fn upload_url(storage: &Storage, call: &Call, target: Target) -> Result<Response> {
    check_key(&target.key)?;
    storage.bucket(&target.bucket).await?;
    let description = Description {
        metadata: json!({}),
        user_metadata: json!({}),
    };
    upload::probe(storage, call, &target, &description, "storage.object.sign_upload_url").await?;
    let url = format!("{}/{}", target.bucket, target.key);
    let issued = now();
    let token = storage.keys.sign(&UploadToken {
        owner: target.owner.as_deref(),
        url: &url,
        upsert: target.existing == Existing::Replace,
        scope: Scope::Upload,
        iat: issued,
        exp: issued + storage.settings.upload_url_lifetime,
    })?;
    let url = format!("/object/upload/sign/{url}?token={token}");
    Ok(Json(json!({ "url": url, "token": token })).into_response())
}

/// `PUT /object/upload/sign/{bucket}/{key}`: owner and whether to replace come from the token.
pub async fn upload(
    storage: &Arc<Storage>,
    call: &Arc<Call>,
    bucket: String,
    key: String,
    query: SignedQuery,
    body: Body,
) -> Result<Response> {
    let claims = storage.permitted(&query.token, Scope::Upload, &bucket, &key)?;
    let replace = claims.get("upsert").and_then(Value::as_bool) == Some(true);
    let target = Target {
        bucket,
        key,
        owner: claims.get("owner").and_then(Value::as_str).map(str::to_owned),
        existing: if replace { Existing::Replace } else { Existing::Keep },
    };
    let bucket = storage.bucket(&target.bucket).await?;
    if target.existing == Existing::Keep && objects::find(&storage.pool, &target.bucket, &target.key).await.is_ok() {
        return Err(Error::KeyAlreadyExists);
    }
    let incoming = upload::receive(storage, call, &bucket, &target, body).await?;
    let (_, key) = upload::save(storage, call, &bucket, target, incoming, "storage.object.upload_signed").await?;
    Ok(Json(json!({ "Key": key })).into_response())
}

/// From when until when a URL may be used, seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Lifetime {
    issued: i64,
    ends: i64,
}

impl Lifetime {
    fn new(seconds: i64) -> Result<Self> {
        if seconds < 1 {
            return Err(Error::Validation("body/expiresIn must be >= 1".into()));
        }
        let issued = now();
        Ok(Self {
            issued,
            ends: issued.saturating_add(seconds),
        })
    }
}

impl Storage {
    fn sign_download(&self, bucket: &str, key: &str, lifetime: Lifetime) -> Result<String> {
        let url = format!("{bucket}/{key}");
        let token = self.keys.sign(&DownloadToken {
            url: &url,
            scope: Scope::Download,
            iat: lifetime.issued,
            exp: lifetime.ends,
        })?;
        Ok(format!("/object/sign/{url}?token={token}"))
    }

    /// The claims of a token that permits this. Tokens of old name no scope; only those for uploads have `upsert`.
    fn permitted(&self, token: &str, scope: Scope, bucket: &str, key: &str) -> Result<Arc<Claims>> {
        let claims = call::verify(&self.keys, token).map_err(|reason| Error::InvalidJwt(reason.into()))?;
        let given = match (claims.get("scope").and_then(Value::as_str), claims.get("upsert")) {
            (Some("download"), _) | (None, None) => Scope::Download,
            (Some("upload"), _) | (None, Some(_)) => Scope::Upload,
            (Some(_), _) => return Err(Error::InvalidSignature("Invalid signature")),
        };
        if given != scope {
            return Err(Error::InvalidSignature(match scope {
                Scope::Download => "Token is not scoped for download",
                Scope::Upload => "Token is not scoped for upload",
            }));
        }
        let url = claims.get("url").and_then(Value::as_str);
        if url != Some(format!("{bucket}/{key}").as_str()) {
            return Err(Error::InvalidSignature("Invalid signature"));
        }
        Ok(claims)
    }
}
