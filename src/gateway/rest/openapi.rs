//! `GET /`: the description of the API, in Swagger 2.0 as PostgREST gives it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::PoisonError,
};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::{
    OpenApiMode,
    catalog::{Relation, Routine},
    error::{Error, Result},
    parse::media::Media,
    reply::LEVEL,
    serve::{Incoming, Work},
    sql::{Sql, Values},
};

use definition::definition;

mod definition;
mod paths;

/// How many descriptions are kept; there are hardly more kinds of callers.
const DESCRIPTIONS: usize = 16;

/// Bytes of descriptions that are kept together, unless one alone is longer.
const KEPT: usize = 64 << 20;

/// In the place of a list.
const EVERYTHING: &str = "";

/// What a caller may use.
struct Rights {
    /// Relations and functions by oid; `None` for everything.
    oids: Option<HashSet<i64>>,
}

impl Rights {
    fn allow(&self, oid: i64) -> bool {
        self.oids.as_ref().is_none_or(|oids| oids.contains(&oid))
    }
}

/// Describes the API to whoever asks.
///
/// # Errors
/// PGRST107, PGRST126, and what Postgres refuses.
pub async fn root(incoming: &Incoming<'_>) -> Result<Response> {
    let accepted = incoming.accepted();
    if let Some(function) = &incoming.settings.db_root_spec {
        return incoming.call(&function.name).await;
    }
    if incoming.settings.openapi_mode == OpenApiMode::Disabled {
        return Err(Error::new(StatusCode::NOT_FOUND, "PGRST126", "Root endpoint metadata is disabled").into());
    }
    if !accepted
        .iter()
        .any(|media| matches!(media, Media::OpenApi | Media::Json | Media::Any))
    {
        let listed: Vec<_> = accepted.iter().map(ToString::to_string).collect();
        let message = format!("None of these media types are available: {}", listed.join(", "));
        return Err(Error::new(StatusCode::NOT_ACCEPTABLE, "PGRST107", message).into());
    }
    let rights = rights(incoming).await?;
    let body = match incoming.is_head() {
        true => Body::empty(),
        false => Body::from(described(incoming, rights)?),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::try_from(Media::OpenApi.content_type()) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if let Some(profile) = incoming
        .profile
        .as_ref()
        .and_then(|profile| HeaderValue::try_from(profile).ok())
    {
        headers.insert("content-profile", profile);
    }
    Ok(response)
}

/// What the caller may use, as the database lists it.
async fn rights(incoming: &Incoming<'_>) -> Result<String> {
    let mut sql = Sql::default();
    sql.push(include_str!("../../../sql/gateway/rest_rights.sql"))
        .push(" ")
        .value(incoming.schema.clone());
    let outcome = incoming
        .run(Work {
            statement: &sql,
            estimate: None,
            values: Values::default(),
            read_only: true,
            routine: None,
            guards: &[],
        })
        .await?;
    let listed = match incoming.settings.openapi_mode {
        OpenApiMode::FollowPrivileges => outcome.rows.first().and_then(|row| row.text(0)).unwrap_or("[]"),
        _ => EVERYTHING,
    };
    Ok(listed.to_owned())
}

/// The description for callers with these rights. That of a great schema takes a while and is the same until the
/// catalog changes, so it is kept with the catalog.
fn described(incoming: &Incoming<'_>, listed: String) -> Result<Bytes> {
    let key = (incoming.schema.clone(), listed);
    let kept = || {
        incoming
            .catalog
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    if let Some(description) = kept().get(&key) {
        return Ok(description.clone());
    }
    let oids = match key.1.as_str() {
        EVERYTHING => None,
        listed => Some(serde_json::from_str(listed).map_err(|_| Error::internal("The rights could not be read"))?),
    };
    let description = tokio::task::block_in_place(|| describe(incoming, &Rights { oids }))
        .map_err(|error| Error::internal(error.to_string()))?;
    let mut kept = kept();
    let bytes: usize = kept.values().chain([&description]).map(Bytes::len).sum();
    if kept.len() >= DESCRIPTIONS || bytes > KEPT {
        kept.clear();
    }
    kept.insert(key, description.clone());
    Ok(description)
}

/// Members of an object. They are made one by one as they are written: all at once would take many times the room
/// of their text.
#[derive(Default)]
struct Members<'a>(BTreeMap<String, Box<dyn Fn() -> Value + 'a>>);

impl<'a> Members<'a> {
    fn add(&mut self, key: String, make: impl Fn() -> Value + 'a) {
        self.0.insert(key, Box::new(make));
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, make)| (key, make())))
    }
}

/// The description, sorted by name like everything in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description<'a> {
    base_path: &'a str,
    consumes: &'a [String],
    definitions: Members<'a>,
    external_docs: Value,
    host: String,
    info: Value,
    parameters: Members<'a>,
    paths: Members<'a>,
    produces: &'a [String],
    schemes: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    security: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    security_definitions: Option<Value>,
    swagger: &'static str,
}

fn describe(incoming: &Incoming<'_>, rights: &Rights) -> serde_json::Result<Bytes> {
    let schema = &incoming.schema;
    let mut relations: Vec<&Relation> = incoming
        .catalog
        .relations
        .values()
        .filter(|relation| relation.schema == *schema)
        .collect();
    relations.retain(|relation| rights.allow(relation.oid));
    relations.sort_by(|a, b| a.name.cmp(&b.name));
    let mut routines: Vec<&Routine> = incoming.catalog.routines.values().flatten().collect();
    routines.retain(|routine| routine.schema == *schema && rights.allow(routine.oid));
    routines.sort_by(|a, b| a.name.cmp(&b.name));

    let mut definitions = Members::default();
    let mut parameters = Members::default();
    let mut members = Members::default();
    for (key, parameter) in paths::common_parameters() {
        parameters.add(key, move || parameter.clone());
    }
    members.add("/".to_owned(), paths::root);
    for relation in relations {
        let name = &relation.name;
        definitions.add(name.clone(), || definition(relation));
        for column in &relation.columns {
            let key = format!("rowFilter.{name}.{}", column.name);
            parameters.add(key, || paths::row_filter(column));
        }
        parameters.add(format!("body.{name}"), || paths::body(relation));
        members.add(format!("/{name}"), || paths::relation(relation));
    }
    for routine in routines {
        members.add(format!("/rpc/{}", routine.name), || paths::routine(routine));
    }
    let comment = incoming.catalog.schema_descriptions.get(schema).map(String::as_str);
    let (title, description) = match comment {
        Some(comment) => {
            let (title, rest) = paths::headline(comment);
            (title, rest.unwrap_or_default())
        }
        None => ("PostgREST API", "This is a dynamic API generated by PostgREST"),
    };
    let proxy = incoming.settings.openapi_server_proxy_uri.as_deref();
    let address = proxy.unwrap_or(&incoming.app.public_url);
    let (scheme, address) = address.split_once("://").unwrap_or(("http", address));
    let (host, base) = address.split_at(address.find('/').unwrap_or(address.len()));
    let host = match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
        _ => format!("{host}:{}", if scheme == "https" { 443 } else { 80 }),
    };
    let mut media = paths::produced();
    media.push(Media::Csv.to_string());
    let major = LEVEL.split('.').next().unwrap_or(LEVEL);
    let secured = incoming.settings.openapi_security_active;
    let description = Description {
        base_path: if base.is_empty() { "/" } else { base },
        consumes: &media,
        definitions,
        external_docs: json!({
            "description": "PostgREST Documentation",
            "url": format!("https://postgrest.org/en/v{major}/references/api.html"),
        }),
        host,
        info: json!({ "version": env!("CARGO_PKG_VERSION"), "title": title, "description": description }),
        parameters,
        paths: members,
        produces: &media,
        schemes: [scheme],
        security: secured.then(|| json!([{ "JWT": [] }])),
        security_definitions: secured.then(|| {
            json!({ "JWT": {
                "type": "apiKey",
                "name": "Authorization",
                "in": "header",
                "description": "Add the token prepending \"Bearer \" (without quotes) to it",
            } })
        }),
        swagger: "2.0",
    };
    let mut text = serde_json::to_vec(&description)?;
    text.shrink_to_fit();
    Ok(text.into())
}
