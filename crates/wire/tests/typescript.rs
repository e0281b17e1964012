//! What `/sdk/haul.d.ts` says of the channel is what the server reads and writes: each request and event, and every field of
//! theirs, by name, by whether it may be absent or null, and by the words that may stand in it.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use haul_wire::{
    ChatAsk, Code, Event, Reply, Request, Why, coupon::CouponAsk, crowd::CrowdAsk, questions::QuestionAsk,
    show::ShowAsk,
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

/// Where the declarations say less, or more, than the wire, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("QualityView.session", "the client tells of sessions over MoQ, too, which have no id"),
    ("Sale.mode", "the other one is never written: it is what is so where there is none"),
];

/// A type, as TypeScript says it.
#[derive(Debug, Clone, PartialEq)]
enum Type {
    Object(BTreeMap<String, (bool, Type)>),
    Array(Box<Type>),
    Union(Vec<Type>),
    Word(String),
    Named(String),
    /// A field of another type.
    Of(String, String),
    Map(Box<Type>),
    Null,
}

/// The declarations: interfaces and types by their names.
struct Declared(BTreeMap<String, Type>);

struct Reader {
    tokens: Vec<String>,
    at: usize,
}

impl Reader {
    fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let len = match c {
                '/' if rest.starts_with("/*") => rest.find("*/").unwrap() + 2,
                '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
                '"' => rest[1..].find('"').unwrap() + 2,
                c if c.is_alphanumeric() || c == '_' => {
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
                }
                c => c.len_utf8(),
            };
            let (token, left) = rest.split_at(len);
            if !token.trim().is_empty() && !token.starts_with("/*") && !token.starts_with("//") {
                tokens.push(token.to_owned());
            }
            rest = left;
        }
        Self { tokens, at: 0 }
    }

    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens[self.at - 1].clone()
    }

    fn take(&mut self, token: &str) -> bool {
        let is_it = self.peek() == token;
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, token: &str) {
        assert!(self.take(token), "expected {token}, found {:?}", &self.tokens[self.at..][..5]);
    }

    fn object(&mut self) -> BTreeMap<String, (bool, Type)> {
        let mut fields = BTreeMap::new();
        self.expect("{");
        while !self.take("}") {
            let name = self.next().trim_matches('"').to_owned();
            let optional = self.take("?");
            self.expect(":");
            let field = self.kind();
            assert!(fields.insert(name, (optional, field)).is_none());
            while self.take(";") || self.take(",") {}
        }
        fields
    }

    fn kind(&mut self) -> Type {
        self.take("|");
        let mut all = vec![self.part()];
        while self.take("|") {
            all.push(self.part());
        }
        if all.len() == 1 { all.remove(0) } else { Type::Union(all) }
    }

    fn part(&mut self) -> Type {
        let mut part = match self.peek() {
            "{" => Type::Object(self.object()),
            "(" => {
                self.next();
                let inner = self.kind();
                // `(string & {})`: any other text.
                while self.take("&") {
                    self.part();
                }
                self.expect(")");
                inner
            }
            "null" => {
                self.next();
                Type::Null
            }
            token if token.starts_with('"') => Type::Word(self.next().trim_matches('"').to_owned()),
            _ => {
                let name = self.next();
                match name.as_str() {
                    "Partial" => {
                        self.expect("<");
                        let inner = self.part();
                        self.expect(">");
                        inner
                    }
                    "Record" => {
                        self.expect("<");
                        self.kind();
                        self.expect(",");
                        let of = self.kind();
                        self.expect(">");
                        Type::Map(Box::new(of))
                    }
                    _ => Type::Named(name),
                }
            }
        };
        while self.peek() == "[" {
            self.next();
            part = match (self.take("]"), part) {
                (true, part) => Type::Array(Box::new(part)),
                (false, Type::Named(name)) => {
                    let field = self.next().trim_matches('"').to_owned();
                    self.expect("]");
                    Type::Of(name, field)
                }
                (false, other) => panic!("a field of {other:?}"),
            };
        }
        part
    }
}

impl Declared {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/assets/sdk/haul.d.ts");
        let mut reader = Reader::new(&std::fs::read_to_string(path).unwrap());
        let mut declared = BTreeMap::new();
        while reader.at < reader.tokens.len() {
            if !reader.take("export") {
                reader.at += 1;
            } else if reader.take("interface") {
                let name = reader.next();
                let mut fields = BTreeMap::new();
                if reader.take("extends") {
                    let Some(Type::Object(parent)) = declared.get(&reader.next()) else { panic!("of what?") };
                    fields.clone_from(parent);
                }
                fields.extend(reader.object());
                declared.insert(name, Type::Object(fields));
            } else if reader.take("type") {
                let name = reader.next();
                reader.expect("=");
                let kind = reader.kind();
                declared.insert(name, kind);
            }
        }
        Self(declared)
    }

    fn fields(&self, name: &str) -> &BTreeMap<String, (bool, Type)> {
        match &self.0[name] {
            Type::Object(fields) => fields,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// The words of a type; nothing for a part of it that is none.
    fn words(&self, kind: &Type) -> Vec<Option<String>> {
        match self.resolve(kind).0 {
            Type::Word(word) => vec![Some(word)],
            Type::Union(parts) => parts.iter().flat_map(|part| self.words(part)).collect(),
            _ => vec![None],
        }
    }

    /// What a name stands for, and the name.
    fn resolve(&self, kind: &Type) -> (Type, Option<String>) {
        match kind {
            Type::Named(name) => match self.0.get(name) {
                Some(kind) => (self.resolve(kind).0, Some(name.clone())),
                None => (kind.clone(), None),
            },
            Type::Of(name, field) => match self.0.get(name) {
                Some(Type::Object(fields)) => self.resolve(&fields[field].1),
                _ => (kind.clone(), None),
            },
            kind => (kind.clone(), None),
        }
    }
}

/// A schema, and those that it names.
struct Schema {
    root: Value,
}

/// A schema's fields: whether each is always there, and what it is.
type Fields<'a> = BTreeMap<String, (bool, &'a Value)>;

impl Schema {
    /// Of what is read, or of what is written.
    fn of<T: JsonSchema>(written: bool) -> Self {
        let settings = SchemaSettings::draft2020_12();
        let settings = if written { settings.for_serialize() } else { settings };
        Self { root: settings.into_generator().into_root_schema_for::<T>().to_value() }
    }

    fn follow<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        while let Some(reference) = schema["$ref"].as_str() {
            schema = self.root.pointer(reference.trim_start_matches('#')).unwrap();
        }
        schema
    }

    /// All fields, those of flattened parts among them.
    fn fields<'a>(&'a self, schema: &'a Value) -> Fields<'a> {
        let schema_ = self.follow(schema);
        let mut all: Fields<'a> = BTreeMap::new();
        if let Some(properties) = schema_["properties"].as_object() {
            let required: BTreeSet<_> =
                schema_["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            all.extend(
                properties
                    .iter()
                    .map(|(name, field)| (name.clone(), (required.contains(name.as_str()), field))),
            );
        }
        for part in schema_["allOf"].as_array().into_iter().flatten() {
            all.extend(self.fields(part));
        }
        // What a tag stands beside.
        if schema["$ref"].is_string() && schema["properties"].is_object() {
            let own = schema["properties"].as_object().unwrap();
            all.extend(own.iter().map(|(name, field)| (name.clone(), (true, field))));
        }
        all
    }

    /// Each of the alternatives, whatever they are nested in.
    fn alternatives<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let followed = self.follow(schema);
        let own = if schema["properties"].is_object() { schema } else { followed };
        let inner = own["oneOf"].as_array().or(own["anyOf"].as_array());
        match inner {
            Some(inner) => inner.iter().flat_map(|one| self.alternatives(one)).collect(),
            None => vec![own],
        }
    }

    /// What is told or asked, by its `type`.
    fn by_type(&self) -> BTreeMap<String, Fields<'_>> {
        let all = self.alternatives(&self.root).into_iter();
        all.map(|one| {
            let mut fields = self.fields(one);
            let (_, kind) = fields.remove("type").unwrap_or_else(|| panic!("{one}"));
            (kind["const"].as_str().unwrap().to_owned(), fields)
        })
        .collect()
    }
}

/// Compares, and gathers what differs.
struct Comparison<'a> {
    declared: &'a Declared,
    schema: &'a Schema,
    differs: Vec<String>,
}

impl Comparison<'_> {
    fn fields(&mut self, place: &str, declared: &BTreeMap<String, (bool, Type)>, schema: &Fields<'_>) {
        let ours: BTreeSet<_> = declared.keys().collect();
        let theirs: BTreeSet<_> = schema.keys().collect();
        if ours != theirs {
            let differ: Vec<_> = ours.symmetric_difference(&theirs).collect();
            self.differs.push(format!("{place}: only one of them has {differ:?}"));
        }
        for (name, (optional, kind)) in declared {
            let Some((required, field)) = schema.get(name) else { continue };
            let place = format!("{place}.{name}");
            if optional == required {
                self.differs.push(format!("{place}: may it be absent?"));
            }
            self.kind(&place, kind, field, *optional);
        }
    }

    fn kind(&mut self, place: &str, declared: &Type, schema: &Value, optional: bool) {
        if DIFFERENT.iter().any(|(known, _)| place.ends_with(known)) {
            return;
        }
        let (declared, name) = self.declared.resolve(declared);
        let place = name.unwrap_or_else(|| place.to_owned());
        let all = self.schema.alternatives(schema);
        let is_null = |schema: &Value| match &schema["type"] {
            Value::Array(kinds) => kinds.iter().any(|kind| kind == "null"),
            kind => kind == "null",
        };
        let nullable = all.iter().any(|schema| is_null(schema));
        let (declared, may_be_null) = match declared {
            Type::Union(parts) => {
                let some: Vec<_> = parts.iter().filter(|part| **part != Type::Null).cloned().collect();
                let null = some.len() < parts.len();
                (if some.len() == 1 { self.declared.resolve(&some[0]).0 } else { Type::Union(some) }, null)
            }
            kind => (kind, false),
        };
        // What may be absent is absent instead.
        if nullable != may_be_null && (may_be_null || !optional) {
            self.differs.push(format!("{place}: may it be null?"));
        }
        let some: Vec<_> = all.into_iter().filter(|schema| schema["type"] != "null").collect();
        let words = words(&some);
        match &declared {
            Type::Object(fields) => {
                let [schema] = some[..] else { return self.differs.push(format!("{place}: one object?")) };
                let theirs = self.schema.fields(schema);
                self.fields(&place, fields, &theirs);
            }
            Type::Array(of) => match some[0].get("items") {
                Some(items) => self.kind(&format!("{place}[]"), of, items, false),
                None => self.differs.push(format!("{place}: a list?")),
            },
            Type::Map(_) if some[0]["type"] == "object" => {}
            Type::Word(_) | Type::Union(_) => {
                let parts =
                    if let Type::Union(parts) = &declared { parts } else { std::slice::from_ref(&declared) };
                let ours: BTreeSet<_> = parts.iter().flat_map(|part| self.declared.words(part)).collect();
                let theirs: BTreeSet<_> = words.iter().cloned().map(Some).collect();
                if ours != theirs {
                    self.differs.push(format!("{place}: {ours:?}, and there {theirs:?}"));
                }
            }
            Type::Named(name) => {
                let kind = some[0]["type"].as_str().or(some[0]["type"][0].as_str()).unwrap_or_default();
                let same = match name.as_str() {
                    // Times are texts on the wire, which the client reads.
                    "number" => ["integer", "number"].contains(&kind) || some[0]["format"] == "date-time",
                    "string" => kind == "string" && words.is_empty(),
                    "boolean" => kind == "boolean",
                    _ => false,
                };
                if !same {
                    self.differs.push(format!("{place}: {name}, and there {}", some[0]));
                }
            }
            other => self.differs.push(format!("{place}: {other:?}")),
        }
    }
}

/// The words that a schema allows, if it names them.
fn words(schemas: &[&Value]) -> BTreeSet<String> {
    let words = schemas.iter().flat_map(|schema| {
        let listed = schema["enum"].as_array().into_iter().flatten();
        listed.chain(schema.get("const")).filter_map(Value::as_str)
    });
    words.map(str::to_owned).collect()
}

fn keys<T>(of: &BTreeMap<String, T>) -> BTreeSet<&str> {
    of.keys().map(String::as_str).collect()
}

#[test]
fn each_event_is_declared_as_it_is_told() {
    let (declared, schema) = (Declared::read(), Schema::of::<Event>(true));
    let (told, events) = (schema.by_type(), declared.fields("ChannelEvents"));
    assert!(told.len() > 25, "{:?}", keys(&told));
    let mut ours = keys(events);
    // The client's own.
    ["snapshot", "state", "event"].iter().for_each(|own| assert!(ours.remove(own)));
    assert_eq!(ours, keys(&told));
    let mut comparison = Comparison { declared: &declared, schema: &schema, differs: Vec::new() };
    for (kind, fields) in &told {
        let (Type::Object(ours), name) = declared.resolve(&events[kind].1) else { panic!("{kind}") };
        comparison.fields(&name.unwrap_or_else(|| kind.clone()), &ours, fields);
    }
    assert_eq!(comparison.differs, Vec::<String>::new());
}

#[test]
fn each_request_is_declared_as_it_is_read() {
    let declared = Declared::read();
    let schemas = [
        Schema::of::<Request>(false),
        Schema::of::<ChatAsk>(false),
        Schema::of::<QuestionAsk>(false),
        Schema::of::<ShowAsk>(false),
        Schema::of::<CrowdAsk>(false),
        Schema::of::<CouponAsk>(false),
    ];
    let requests = declared.fields("Requests");
    let (mut read, mut differs) = (BTreeSet::new(), Vec::new());
    for schema in &schemas {
        let mut comparison = Comparison { declared: &declared, schema, differs: Vec::new() };
        for (kind, fields) in schema.by_type() {
            if let Some((_, request)) = requests.get(&kind) {
                let Type::Object(parts) = request else { panic!("{kind}") };
                let Type::Object(ours) = &parts["fields"].1 else { panic!("{kind}") };
                comparison.fields(&kind, ours, &fields);
            }
            read.insert(kind);
        }
        differs.extend(comparison.differs);
    }
    assert_eq!(keys(requests), read.iter().map(String::as_str).collect());
    assert_eq!(differs, Vec::<String>::new());
}

#[test]
fn each_result_is_declared_as_one_that_is_written() {
    let (declared, schema) = (Declared::read(), Schema::of::<Reply>(true));
    let replies = schema.alternatives(&schema.root);
    let mut used = BTreeSet::new();
    for (kind, (_, request)) in declared.fields("Requests") {
        let Type::Object(parts) = request else { panic!("{kind}") };
        let result = &parts["result"].1;
        let all = if let Type::Union(all) = result { all.clone() } else { vec![result.clone()] };
        for one in all {
            let (Type::Object(ours), _) = declared.resolve(&one) else { panic!("{kind}: {one:?}") };
            let mut differs = Vec::new();
            let found = replies.iter().position(|reply| {
                let theirs = schema.fields(reply);
                if keys(&ours) != theirs.keys().map(String::as_str).collect() {
                    return false;
                }
                let mut comparison = Comparison { declared: &declared, schema: &schema, differs: Vec::new() };
                comparison.fields(kind, &ours, &theirs);
                differs.extend(comparison.differs.iter().cloned());
                comparison.differs.is_empty()
            });
            used.insert(found.unwrap_or_else(|| panic!("{kind}: no reply is so: {differs:?}")));
        }
    }
    assert_eq!(used.len(), replies.len(), "every reply is some request's result");
}

/// The words of a declared type that are also the server's, on its channel: it may have `others`.
fn declares<T: JsonSchema>(name: &str, others: &[&str]) {
    let (declared, schema) = (Declared::read(), Schema::of::<T>(true));
    let server = words(&schema.alternatives(&schema.root));
    let Type::Union(parts) = &declared.0[name] else { panic!("no union") };
    let ours: BTreeSet<_> = parts
        .iter()
        .filter_map(|part| if let Type::Word(word) = part { Some(word.clone()) } else { None })
        .collect();
    let others: BTreeSet<_> = others.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(ours.difference(&others).cloned().collect::<BTreeSet<_>>(), server);
}

#[test]
fn each_code_is_declared_and_why() {
    declares::<Code>("Code", &["disconnected", "timeout", "network", "aborted"]);
    // Guests come over REST; that no session comes about, a client finds out.
    declares::<Why>("Why", &["guests", "no_session"]);
}
