//! Trees that are what they should be, and the texts where they are not.

use std::{thread, time::Duration};

use proptest::prelude::*;

use crate::{
    Config, Kind, SpanContext, SpanId, Status, TraceId, TraceState,
    testing::{TestEngine, engine::tests::message_of, expected::Expected},
};

const STEP: Duration = Duration::from_millis(1);

/// GET /cart, with load, which has a query, and then render.
fn cart() -> TestEngine {
    let engine = TestEngine::start();
    let tracer = engine.tracer("shop");
    let mut request = tracer.root("GET /cart").kind(Kind::Server).start();
    request.set("http.route", "/cart | all");
    request.set("items", 3);
    request.event_with("cache.miss", [("key", 1)]);
    let load = tracer.span("load").parent(request.context()).start();
    let mut query = tracer.span("query").kind(Kind::Client).parent(load.context()).start();
    query.status(Status::Error("out of\nstock"));
    drop(query);
    drop(load);
    engine.advance(STEP);
    let mut render = tracer.span("render").parent(request.context()).start();
    render.status(Status::Ok);
    drop(render);
    drop(request);
    engine
}

#[test]
fn tree_that_is_there_is_taken() {
    let engine = cart();
    assert_tree!(engine, "GET /cart\n load\n  query\n render");
    assert_tree!(
        engine,
        r#"
            GET /cart | server | http.route = "/cart | all" | items=3 | event cache.miss
                load | internal | unset
                    query | client | error "out of\nstock" | error

                "render" | ok
        "#,
    );
    assert_tree!(&engine, "GET /cart\n load\n  query\n render");
    assert_tree!(engine.finished(), "GET /cart\n load\n  query\n render");
    assert_tree!(engine, "");
}

#[test]
fn difference_is_shown_in_lines_that_can_be_taken_over() {
    let engine = cart();
    let text = message_of(|| {
        assert_tree!(
            engine,
            "
            GET /cart | server
              load
                query | client | ok
                commit
            "
        );
    });
    let expected = r#"the trees differ (`-` expected, `+` found):
  GET /cart | server
    load
-     query | client | ok
-     commit
+     query | client | error "out of\nstock"
+   render | ok
"#;
    assert_eq!(text, expected);
    // What is shown as found is what would be expected.
    let found = message_of(|| assert_tree!(engine, ""));
    let lines: Vec<&str> = found.lines().skip(1).map(|line| line.strip_prefix("+ ").unwrap()).collect();
    assert_eq!(lines[0], r#"GET /cart | server | http.route = "/cart | all" | items = 3 | event cache.miss"#);
    assert_tree!(engine, &lines.join("\n"));
}

#[test]
fn each_thing_that_is_asked_for_counts() {
    let engine = cart();
    let tree = |first: &str| format!("GET /cart | {first}\n load\n  query\n render");
    let wrong = [
        "client",
        "ok",
        "error",
        "error \"out of\\nstock\"",
        "items = 4",
        "items = \"3\"",
        "missing = 1",
        "event load",
        "remote parent",
        "orphan",
    ];
    for wrong in wrong {
        let text = message_of(|| assert_tree!(engine, &tree(wrong)));
        assert!(text.contains(&format!("- GET /cart | {wrong}\n")), "{text}");
    }
    for right in ["server", "unset", "items = 3", "event cache.miss", "event \"cache.miss\""] {
        assert_tree!(engine, &tree(right));
    }
}

#[test]
fn span_in_another_place_is_another_tree() {
    let engine = cart();
    let text = message_of(|| assert_tree!(engine, "GET /cart\n load\n query\n render"));
    assert!(text.contains("-   query\n") && text.contains("+     query | client"), "{text}");
    let text = message_of(|| assert_tree!(engine, "GET /cart\n render\n load\n  query"));
    assert!(text.contains("-   render\n") && text.ends_with("+   render | ok\n"), "render began later: {text}");
}

#[test]
fn spans_that_began_at_the_same_time_have_no_order() {
    const TASKS: usize = 4;
    let engine = TestEngine::start();
    let tracer = engine.tracer("t");
    let root = tracer.root("fan-out").start();
    thread::scope(|scope| {
        for task in 0..TASKS {
            let (tracer, parent) = (tracer.clone(), root.context().clone());
            scope.spawn(move || {
                let mut span = tracer.span("task").parent(&parent).start();
                span.set("task", task as u64);
                let name = if task % 2 == 0 { "even" } else { "odd" };
                drop(tracer.span(name).parent(span.context()).start());
            });
        }
    });
    drop(root);
    assert_tree!(
        engine,
        "
        fan-out
          task
            odd
          task | task = 2
            even
          task | task = 3
            odd
          task
            even
        "
    );
    let text = message_of(|| assert_tree!(engine, "fan-out\n task\n  odd\n task\n  odd\n task\n  odd\n task\n  even"));
    assert_eq!(text.lines().filter(|line| line.starts_with(['-', '+'])).count(), 2, "{text}");
}

/// The line that says less comes first, and would take the span that the other one needs.
#[test]
fn lines_that_say_more_get_what_they_need() {
    let engine = TestEngine::start();
    let tracer = engine.tracer("t");
    for task in 1..=3 {
        tracer.root("task").attributes(&[("task".into(), task.into())]).start().end();
    }
    assert_tree!(engine, "task\ntask | task = 1\ntask | task = 2");
    assert_tree!(engine, "task | task = 3\ntask\ntask | task = 1");
    let text = message_of(|| assert_tree!(engine, "task\ntask | task = 1\ntask | task = 1"));
    assert!(text.starts_with("the trees differ"), "{text}");
}

#[test]
fn orphans_have_to_be_asked_for_and_open_spans_are_told() {
    let engine = TestEngine::start();
    let tracer = engine.tracer("t");
    let open = tracer.root("open").start();
    drop(tracer.span("early").parent(open.context()).start());
    let text = message_of(|| assert_tree!(engine, "early"));
    assert_eq!(
        text,
        "the trees differ (`-` expected, `+` found):\n- early\n+ early | orphan\nstill open, and so not found: 1\n"
    );
    assert_tree!(engine, "early | orphan");
    let remote = SpanContext::remote(TraceId([7; 16]), SpanId([7; 8]), 1, TraceState::default());
    drop(tracer.span("served").parent(&remote).start());
    assert_tree!(engine, "early | orphan\nserved | remote parent");
}

#[test]
fn names_that_would_not_be_read_back_are_in_quotes() {
    let engine = TestEngine::start();
    let tracer = engine.tracer("t");
    for name in [
        "a | server",
        " padded ",
        "\"quoted\" | x",
        "two\nlines",
        "say \"hi | there",
        "a |",
        "| a",
        "bär | ",
        "back\\\"",
    ] {
        drop(tracer.root(name).start());
        let found = message_of(|| assert_tree!(engine, ""));
        let line = found.lines().nth(1).and_then(|line| line.strip_prefix("+ ")).unwrap();
        assert_tree!(engine, line);
        let _ = engine.finished();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 5 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What a failure shows as found is what a test may expect, whatever the texts are.
    #[test]
    fn found_line_is_read_back(name in ODD_TEXT, key in ODD_TEXT, value in ODD_TEXT, event in ODD_TEXT) {
        let engine = TestEngine::start_with(Config { memory_budget: 1 << 20, ..Config::default() });
        let mut span = engine.tracer("t").root(&name).start();
        span.set(key.as_str(), value.as_str());
        span.event(&event);
        span.status(Status::Error(&value));
        drop(span);
        let found = message_of(|| assert_tree!(engine, ""));
        let line = found.split_once('\n').and_then(|(_, line)| line.strip_prefix("+ ")).unwrap();
        assert_tree!(engine, line);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ a|=\"\\\\\n€]{0,24}") {
        let _ = Expected::parse(&text);
    }
}

/// Texts of what means something in a line.
const ODD_TEXT: &str = "( \\| |[ a|=\"\\\\\n€]){0,6}";

#[test]
fn tree_that_cannot_be_read_is_refused_with_its_line() {
    let engine = cart();
    let refused = |tree: &str| {
        let text = message_of(|| assert_tree!(engine, tree));
        text.strip_prefix("the expected tree cannot be read: ").map(str::to_owned).unwrap_or(text)
    };
    assert_eq!(refused("\n    a\n  b\n"), "line 3: `b` is indented like no line above it");
    assert_eq!(refused("a\n    b\n  c"), "line 3: `c` is indented like no line above it");
    assert_eq!(
        refused("a | sever"),
        "line 1: `sever` is no kind (server), status (unset, ok, error, error \"text\"), attribute (key = value), \
         `event name`, `remote parent` or `orphan`"
    );
}
