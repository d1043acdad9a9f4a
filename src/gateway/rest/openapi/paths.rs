//! What can be done with relations and functions, and with which parameters.

use serde_json::{Map, Value, json};

use super::{
    super::{
        catalog::{Column, Relation, Routine},
        parse::media::Media,
    },
    definition::{describe_as, in_query, own_type, typed},
};

/// The description's own path.
pub fn root() -> Value {
    json!({ "get": {
        "tags": ["Introspection"],
        "summary": "OpenAPI description (this document)",
        "produces": ["application/openapi+json", "application/json"],
        "responses": { "200": { "description": "OK" } },
    } })
}

/// The parameter that filters by a column.
pub fn row_filter(column: &Column) -> Value {
    let mut parameter = json!({ "name": column.name, "in": "query", "required": false, "type": "string" });
    describe_as(&mut parameter, column.description.as_deref());
    parameter
}

/// The parameter that is a row of a relation.
pub fn body(relation: &Relation) -> Value {
    let name = &relation.name;
    let schema = json!({ "$ref": format!("#/definitions/{name}") });
    let mut body = json!({ "name": name, "in": "body", "required": false, "schema": schema });
    describe_as(&mut body, Some(name));
    body
}

/// What functions answer with.
pub fn produced() -> Vec<String> {
    let media = [
        Media::Json,
        Media::Object { strip_nulls: true },
        Media::Object { strip_nulls: false },
    ];
    media.iter().map(ToString::to_string).collect()
}

/// The first line of a comment, and what is said below it.
pub fn headline(comment: &str) -> (&str, Option<&str>) {
    match comment.split_once('\n') {
        Some((first, rest)) => (
            first,
            Some(rest.trim_start_matches('\n')).filter(|rest| !rest.is_empty()),
        ),
        None => (comment, None),
    }
}

/// An operation with what its thing's comment says of it.
fn operation(tag: &str, comment: Option<&str>) -> Value {
    let mut operation = json!({ "tags": [tag] });
    if let Some((summary, description)) = comment.map(headline) {
        operation["summary"] = summary.into();
        describe_as(&mut operation, description);
    }
    operation
}

/// A relation's path.
pub fn relation(relation: &Relation) -> Value {
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
    let like = |parameters: Vec<Value>, responses: Value| {
        let mut operation = operation(name, relation.description.as_deref());
        operation["parameters"] = parameters.into();
        operation["responses"] = responses;
        operation
    };
    let mut path = json!({ "get": like(
        with(&["select", "order", "range", "rangeUnit", "offset", "limit", "preferCount"]),
        json!({
            "200": {
                "description": "OK",
                "schema": { "type": "array", "items": { "$ref": format!("#/definitions/{name}") } },
            },
            "206": { "description": "Partial Content" },
        }),
    ) });
    if relation.insertable || relation.updatable || relation.deletable {
        let nothing = json!({ "204": { "description": "No Content" } });
        path["post"] = like(
            vec![body, reference("select"), reference("preferPost")],
            json!({ "201": { "description": "Created" } }),
        );
        path["patch"] = like(with(&[&format!("body.{name}"), "preferReturn"]), nothing.clone());
        path["delete"] = like(with(&["preferReturn"]), nothing);
    }
    path
}

/// A function's path.
pub fn routine(routine: &Routine) -> Value {
    let required: Vec<&str> = routine
        .arguments
        .iter()
        .filter(|argument| argument.required)
        .map(|argument| argument.name.as_str())
        .collect();
    let properties: Map<String, Value> = routine
        .arguments
        .iter()
        .map(|argument| {
            (
                argument.name.clone(),
                typed(own_type(&routine.schema, &argument.type_name)),
            )
        })
        .collect();
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    describe_as(&mut schema, routine.description.as_deref());
    let like = |parameters: Value| {
        let mut operation = operation(&format!("(rpc) {}", routine.name), routine.description.as_deref());
        operation["produces"] = produced().into();
        operation["parameters"] = parameters;
        operation["responses"] = json!({ "200": { "description": "OK" } });
        operation
    };
    let mut path = json!({ "post": like(json!([
        { "name": "args", "in": "body", "required": true, "schema": schema },
        { "$ref": "#/parameters/preferParams" },
    ])) });
    if routine.volatility != 'v' {
        let parameters = routine.arguments.iter().map(|argument| {
            let mut parameter = in_query(own_type(&routine.schema, &argument.type_name), argument.variadic);
            parameter["name"] = argument.name.clone().into();
            parameter["in"] = "query".into();
            parameter["required"] = argument.required.into();
            parameter
        });
        path["get"] = like(parameters.collect());
    }
    path
}

/// The parameters that all relations share.
pub fn common_parameters() -> Map<String, Value> {
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
    add("preferParams", "Prefer", "header", "Preference", &[]);
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
    parameters["rangeUnit"]["default"] = "items".into();
    parameters
}
