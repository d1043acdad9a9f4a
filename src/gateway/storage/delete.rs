//! Deleting objects. The row goes; its blob is announced by the row's own trigger and swept after the commit.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Storage,
    call::{Call, Identity},
    error::{Error, Result},
    objects::Object,
};

/// `DELETE /object/{bucket}/{key}`
pub async fn delete(storage: &Storage, call: &Call, bucket: &str, key: &str) -> Result<Response> {
    const OPERATION: &str = "storage.object.delete";
    call.claims()?;
    let mut transaction = call.begin(&storage.pool, Identity::Service, OPERATION).await?;
    // Whether it exists is asked first: missing and forbidden have different answers.
    sqlx::query("select from storage.objects where bucket_id = $1 and name = $2 for update")
        .bind(bucket)
        .bind(key)
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or(Error::NoSuchKey)?;
    call.act_as(&mut transaction, Identity::Caller, OPERATION).await?;
    let deleted = sqlx::query("delete from storage.objects where bucket_id = $1 and name = $2")
        .bind(bucket)
        .bind(key)
        .execute(&mut *transaction)
        .await?;
    if deleted.rows_affected() == 0 {
        return Err(Error::denied("Access denied"));
    }
    transaction.commit().await?;
    storage.sweep.notify_one();
    Ok(Json(json!({ "message": "Successfully deleted" })).into_response())
}

/// The body of `DELETE /object/{bucket}`.
#[derive(Debug, Deserialize)]
pub struct DeleteMany {
    /// Keys; the name is Supabase's.
    prefixes: Vec<Entry>,
}

/// A key, or a key and one of its versions; there is only one version here.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Entry {
    Key(String),
    Version { path: String },
}

/// `DELETE /object/{bucket}`: deletes what the caller may delete and returns it; the rest is passed over.
pub async fn delete_many(storage: &Storage, call: &Call, bucket: &str, wanted: DeleteMany) -> Result<Response> {
    let keys: Vec<String> = wanted
        .prefixes
        .into_iter()
        .map(|entry| match entry {
            Entry::Key(path) | Entry::Version { path } => path,
        })
        .collect();
    let mut transaction = call
        .begin(&storage.pool, Identity::Caller, "storage.object.delete_many")
        .await?;
    let deleted: Vec<Object> =
        sqlx::query_as("delete from storage.objects where bucket_id = $1 and name = any($2) returning *")
            .bind(bucket)
            .bind(keys)
            .fetch_all(&mut *transaction)
            .await?;
    transaction.commit().await?;
    storage.sweep.notify_one();
    let deleted: Vec<Value> = deleted.iter().map(Object::to_json).collect();
    Ok(Json(deleted).into_response())
}
