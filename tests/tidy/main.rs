//! Keeps the house style: each rule that a machine can check is one test, and its failure says where and what to do.
//!
//! A rule is a pure function from text to findings, so that `snippets.rs` and the tests below each rule can feed it a
//! text that it must refuse and one that it must pass.

mod argued;
mod budget;
mod conformance;
mod documents;
mod imports;
mod paths;
mod places;
mod shape;
mod snippets;
mod source;

use source::{each, exists, paths, sources, text};

macro_rules! rules {
    ($($claim:ident: $rule:expr;)*) => { $(
        #[test]
        fn $claim() {
            let findings: Vec<String> = $rule;
            assert!(findings.is_empty(), "{} to mend:\n{}", findings.len(), findings.join("\n"));
        }
    )* };
}

rules! {
    source_files_open_with_their_purpose: each(&["src"], shape::opening);
    modules_name_only_what_the_import_table_allows: imports::table(&imports::Table::read(&text("ARCHITECTURE.md")), sources("src"));
    files_import_each_other_in_no_circle: imports::circles(sources("src"));
    unsafe_stays_in_its_places: each(&["src"], argued::unsafe_places);
    unsafe_is_argued_where_it_stands: each(&["src"], argued::unsafe_reasons);
    atomic_orderings_are_argued_where_they_stand: each(&["src"], argued::orderings);
    ordering_labels_have_two_sides_a_row_and_a_model: argued::labels(sources("src"), &paths("loom-tests/tests"));
    files_and_functions_hold_one_idea: each(&["src"], shape::sizes);
    comments_are_no_wider_than_a_page: each(&["src", "tests", "examples", "benches", "loom-tests", "fuzz"], shape::widths);
    nothing_is_left_for_later_and_nothing_sleeps: each(&["src", "tests", "loom-tests"], shape::leftovers);
    conditional_code_stays_in_its_places: each(&["src"], places::conditions);
    machine_is_reached_through_its_door: each(&["src"], places::machine);
    files_and_the_environment_are_read_in_their_places: each(&["src"], places::outside);
    tests_share_modules_and_no_paths: each(&["tests"], places::borrowed);
    what_a_child_process_inherits_is_known: each(&["src"], places::shared);
    test_programs_are_few: places::programs(&paths("tests"));
    nothing_is_imported_by_glob: each(&["src"], shape::globs);
    source_files_are_reachable: shape::unreachable(sources("src"));
    files_named_in_the_readme_exist: documents::files("README.md", &text("README.md"), &exists);
    links_of_the_readme_lead_somewhere: documents::dead_links("README.md", &text("README.md"));
    rows_of_the_conformance_table_are_shown_by_tests: conformance::table("docs/conformance.md", &text("docs/conformance.md"), &conformance::tests());
    files_named_in_the_architecture_exist: documents::files("ARCHITECTURE.md", &text("ARCHITECTURE.md"), &exists);
}
