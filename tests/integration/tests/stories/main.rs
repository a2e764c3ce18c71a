//! The stories of the platform that leave its processes alone; they run side by side.

#[path = "../common/mod.rs"]
mod common;

mod a_gang_is_placed_whole_or_not_at_all;
mod an_old_generation_is_refused;
mod bad_input_names_the_field;
mod children_end_with_their_parent;
mod every_service_speaks_its_whole_api;
mod the_users_routes_through_a_release;
