//! `GET /`: the description of the API, in Swagger 2.0 as PostgREST gives it.

use std::collections::HashSet;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{
    OpenApiMode,
    catalog::{Relation, Routine},
    error::{Error, Result},
    parse::media::Media,
    serve::{Incoming, Work},
    sql::Sql,
};

use definition::{definition, describe_as, typed};

mod definition;

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
        false => Body::from(describe(incoming, &rights).to_string()),
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

async fn rights(incoming: &Incoming<'_>) -> Result<Rights> {
    let mut sql = Sql::default();
    sql.push(include_str!("../../../sql/gateway/rest_rights.sql"))
        .push(" ")
        .value(incoming.schema.clone());
    let outcome = incoming
        .run(Work {
            statement: sql,
            read_only: true,
            ..Work::default()
        })
        .await?;
    let listed = outcome.rows.first().and_then(|row| row.text(0)).unwrap_or("[]");
    let oids = serde_json::from_str(listed).map_err(|_| Error::internal("The rights could not be read"))?;
    Ok(Rights {
        oids: (incoming.settings.openapi_mode == OpenApiMode::FollowPrivileges).then_some(oids),
    })
}

fn describe(incoming: &Incoming<'_>, rights: &Rights) -> Value {
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

    let (mut paths, mut definitions, mut parameters) = (Map::new(), Map::new(), common_parameters());
    paths.insert(
        "/".to_owned(),
        json!({ "get": {
            "tags": ["Introspection"],
            "summary": "OpenAPI description (this document)",
            "produces": ["application/openapi+json", "application/json"],
            "responses": { "200": { "description": "OK" } },
        } }),
    );
    for relation in relations {
        definitions.insert(relation.name.clone(), definition(relation));
        for column in &relation.columns {
            let key = format!("rowFilter.{}.{}", relation.name, column.name);
            let mut parameter = json!({ "name": column.name, "in": "query", "required": false, "type": "string" });
            describe_as(&mut parameter, column.description.as_deref());
            parameters.insert(key, parameter);
        }
        let mut body = json!({
            "name": relation.name, "in": "body", "required": false,
            "schema": { "$ref": format!("#/definitions/{}", relation.name) },
        });
        describe_as(&mut body, relation.description.as_deref());
        parameters.insert(format!("body.{}", relation.name), body);
        paths.insert(format!("/{}", relation.name), relation_path(relation));
    }
    for routine in routines {
        paths.insert(format!("/rpc/{}", routine.name), routine_path(routine));
    }
    let comment = incoming.catalog.schema_descriptions.get(schema).map(String::as_str);
    let (title, description) = match comment {
        Some(comment) => match comment.split_once('\n') {
            Some((title, rest)) => (title, rest.trim_start()),
            None => (comment, ""),
        },
        None => ("PostgREST API", "The tables, views and functions of this database"),
    };
    let proxy = incoming.settings.openapi_server_proxy_uri.as_deref();
    let address = proxy.unwrap_or(&incoming.app.public_url);
    let (scheme, address) = address.split_once("://").unwrap_or(("http", address));
    let (host, base) = address.split_at(address.find('/').unwrap_or(address.len()));
    let media: Vec<_> = [
        Media::Json,
        Media::Object { strip_nulls: true },
        Media::Object { strip_nulls: false },
        Media::Csv,
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    json!({
        "swagger": "2.0",
        "info": { "version": env!("CARGO_PKG_VERSION"), "title": title, "description": description },
        "host": host,
        "basePath": if base.is_empty() { "/" } else { base },
        "schemes": [scheme],
        "consumes": media,
        "produces": media,
        "paths": paths,
        "definitions": definitions,
        "parameters": parameters,
        "externalDocs": {
            "description": "PostgREST Documentation",
            "url": "https://postgrest.org/en/stable/references/api.html",
        },
    })
}

fn relation_path(relation: &Relation) -> Value {
    let name = &relation.name;
    let reference = |to: &str| json!({ "$ref": format!("#/parameters/{to}") });
    let filters = || {
        relation
            .columns
            .iter()
            .map(|column| reference(&format!("rowFilter.{name}.{}", column.name)))
    };
    let with = |more: &[&str]| -> Vec<Value> { filters().chain(more.iter().map(|to| reference(to))).collect() };
    let body = reference(&format!("body.{name}"));
    let mut get = json!({
        "tags": [name],
        "parameters": with(&["select", "order", "range", "rangeUnit", "offset", "limit", "preferCount"]),
        "responses": {
            "200": {
                "description": "OK",
                "schema": { "type": "array", "items": { "$ref": format!("#/definitions/{name}") } },
            },
            "206": { "description": "Partial Content" },
        },
    });
    if let Some((summary, rest)) = relation
        .description
        .as_deref()
        .map(|text| text.split_once('\n').unwrap_or((text, "")))
    {
        get["summary"] = summary.into();
        if !rest.is_empty() {
            get["description"] = rest.trim_start().into();
        }
    }
    let mut path = json!({ "get": get });
    if relation.insertable {
        path["post"] = json!({
            "tags": [name],
            "parameters": [body, reference("select"), reference("preferPost")],
            "responses": { "201": { "description": "Created" } },
        });
    }
    if relation.updatable {
        let mut parameters = with(&[]);
        parameters.extend([body, reference("preferReturn")]);
        path["patch"] = json!({
            "tags": [name],
            "parameters": parameters,
            "responses": { "204": { "description": "No Content" } },
        });
    }
    if relation.deletable {
        path["delete"] = json!({
            "tags": [name],
            "parameters": with(&["preferReturn"]),
            "responses": { "204": { "description": "No Content" } },
        });
    }
    path
}

fn routine_path(routine: &Routine) -> Value {
    let tag = format!("(rpc) {}", routine.name);
    let required: Vec<&str> = routine
        .arguments
        .iter()
        .filter(|argument| argument.required)
        .map(|argument| argument.name.as_str())
        .collect();
    let properties: Map<String, Value> = routine
        .arguments
        .iter()
        .map(|argument| (argument.name.clone(), typed(&argument.type_name)))
        .collect();
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    describe_as(&mut schema, routine.description.as_deref());
    let responses = json!({ "200": { "description": "OK" } });
    let produces = ["application/json", "application/vnd.pgrst.object+json"];
    let mut path = json!({ "post": {
        "tags": [tag],
        "produces": produces,
        "parameters": [
            { "name": "args", "in": "body", "required": true, "schema": schema },
            { "$ref": "#/parameters/preferParams" },
        ],
        "responses": responses,
    } });
    if routine.volatility != 'v' {
        let parameters: Vec<Value> = routine
            .arguments
            .iter()
            .map(|argument| {
                let mut parameter = typed(&argument.type_name);
                parameter["name"] = argument.name.clone().into();
                parameter["in"] = "query".into();
                parameter["required"] = argument.required.into();
                parameter
            })
            .collect();
        path["get"] = json!({ "tags": [tag], "produces": produces, "parameters": parameters, "responses": responses });
    }
    path
}

fn common_parameters() -> Map<String, Value> {
    let mut parameters = Map::new();
    let mut add = |key: &str, name: &str, place: &str, description: &str, values: &[&str]| {
        let mut parameter = json!({ "name": name, "in": place, "required": false, "type": "string" });
        describe_as(&mut parameter, Some(description));
        if !values.is_empty() {
            parameter["enum"] = json!(values);
        }
        parameters.insert(key.to_owned(), parameter);
    };
    let returning = ["return=representation", "return=minimal", "return=none"];
    let resolution = ["resolution=ignore-duplicates", "resolution=merge-duplicates"];
    add(
        "preferParams",
        "Prefer",
        "header",
        "Preference",
        &["params=single-object"],
    );
    add("preferReturn", "Prefer", "header", "Preference", &returning);
    add("preferCount", "Prefer", "header", "Preference", &["count=none"]);
    add(
        "preferPost",
        "Prefer",
        "header",
        "Preference",
        &[&returning[..], &resolution[..]].concat(),
    );
    add("select", "select", "query", "Filtering Columns", &[]);
    add("on_conflict", "on_conflict", "query", "On Conflict", &[]);
    add("order", "order", "query", "Ordering", &[]);
    add("range", "Range", "header", "Limiting and Pagination", &[]);
    add("rangeUnit", "Range-Unit", "header", "Limiting and Pagination", &[]);
    add("offset", "offset", "query", "Limiting and Pagination", &[]);
    add("limit", "limit", "query", "Limiting and Pagination", &[]);
    parameters
}
