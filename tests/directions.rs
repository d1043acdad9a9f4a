//! Dependence runs one way: `main → cli → {gateway, worker, postgres} → db → domain`. What breaks it compiles, so this
//! reads the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What is in the folder or file of the first column names no module or crate of the second.
const FORBIDDEN: &[(&str, &str)] = &[
    // they meet in the database: that is what lets the worker run alone beside a hosted Supabase
    ("gateway", "crate::worker crate::cli crate::postgres"),
    ("worker", "crate::gateway crate::cli crate::postgres axum"),
    ("postgres", "crate::gateway crate::worker crate::cli crate::db"),
    ("db", "crate::gateway crate::worker crate::cli crate::postgres axum"),
    (
        "domain",
        "crate::gateway crate::worker crate::cli crate::postgres crate::db sqlx axum",
    ),
    // operators' commands go through the API, so that they work on a hosted Supabase too
    ("cli/admin", "crate::db crate::gateway crate::worker"),
];

/// Below `gateway`, none of which names another; what they share sits beside them.
const SERVICES: [&str; 4] = ["auth", "rest", "realtime", "storage"];

#[test]
fn dependence_runs_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&src);
    assert!(files.len() > 5, "no sources in {}", src.display());
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&src).expect("found below src").with_extension("");
        let module = module(&inside);
        let paths = paths(&fs::read_to_string(&file).unwrap(), &module);
        let forbidden = forbidden(&inside);
        for path in paths {
            if forbidden.iter().any(|other| is_within(&path, other)) {
                wrong.push(format!("src/{}.rs names {path}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn paths_are_found_however_they_are_written() {
    let found = |source: &str| paths(source, "crate::gateway::rest::sql");
    assert_eq!(found("use crate::worker::Duty;"), ["crate::worker::Duty"]);
    assert_eq!(
        found("use crate::{\n    db::{self, Database},\n    worker,\n};"),
        ["crate::db::self", "crate::db::Database", "crate::worker"]
    );
    assert_eq!(
        found("let x = crate::gateway::auth::f(1);"),
        ["crate::gateway::auth::f"]
    );
    assert_eq!(found("use super::super::auth;"), ["crate::gateway::auth"]);
    assert_eq!(found("use super::plan::Plan;"), ["crate::gateway::rest::plan::Plan"]);
    assert_eq!(found("axum::Json(x)"), ["axum::Json"]);
    assert!(found("// see crate::worker\n/// [`crate::worker`]").is_empty());
}

fn forbidden(inside: &Path) -> Vec<String> {
    let rows = FORBIDDEN.iter().filter(|(folder, _)| inside.starts_with(folder));
    let mut found: Vec<String> = rows
        .flat_map(|(_, names)| names.split(' '))
        .map(str::to_owned)
        .collect();
    let service = |name: &&str| inside.starts_with(Path::new("gateway").join(name));
    if let Some(own) = SERVICES.iter().find(|name| service(name)) {
        let others = SERVICES.iter().filter(|name| *name != own);
        found.extend(others.map(|other| format!("crate::gateway::{other}")));
    }
    found
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// `gateway/rest/mod` → `crate::gateway::rest`.
fn module(inside: &Path) -> String {
    let parts = inside.iter().map(|part| part.to_str().expect("file names are ASCII"));
    let named = parts.filter(|part| !["mod", "lib", "main"].contains(part));
    ["crate"].into_iter().chain(named).collect::<Vec<_>>().join("::")
}

fn is_within(path: &str, other: &str) -> bool {
    path.strip_prefix(other)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path of two or more names in the code, from the crate's root, with the groups of `use` spelled out.
fn paths(source: &str, module: &str) -> Vec<String> {
    let code: String = source
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some(start) = rest.find(|c: char| c.is_alphanumeric() || c == '_') {
        rest = &rest[start..];
        rest = tree(rest, "", &mut found);
    }
    found
        .into_iter()
        .filter(|path| path.contains("::"))
        .map(|path| absolute(&path, module))
        .collect()
}

/// Reads one path, or all paths of a group behind `prefix`, and returns what follows it.
fn tree<'a>(code: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let end = code
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(code.len());
    let path = format!("{prefix}{}", &code[..end]);
    let Some(next) = code[end..].strip_prefix("::") else {
        found.push(path);
        return &code[end..];
    };
    let prefix = format!("{path}::");
    let Some(mut group) = next.strip_prefix('{') else {
        if next.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return tree(next, &prefix, found);
        }
        found.push(path);
        return next;
    };
    loop {
        group = group.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        match group.chars().next() {
            Some(c) if c.is_alphanumeric() || c == '_' => group = tree(group, &prefix, found),
            Some('}') => return &group[1..],
            Some(c) => group = &group[c.len_utf8()..],
            None => return group,
        }
    }
}

/// `super::` and `self::` resolved against the module they stand in.
fn absolute(path: &str, module: &str) -> String {
    let mut here = module;
    let mut path = path.strip_prefix("self::").unwrap_or(path);
    let mut relative = false;
    while let Some(rest) = path.strip_prefix("super::") {
        here = here.rsplit_once("::").map_or("crate", |(parent, _)| parent);
        path = rest;
        relative = true;
    }
    if relative {
        format!("{here}::{path}")
    } else {
        path.to_owned()
    }
}
