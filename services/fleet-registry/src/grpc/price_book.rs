//! Price books over gRPC.

use crate::app::{self, App};
use muster_kit::Caller;
use muster_proto::registry::v1::{self as wire, price_book_service_server::PriceBookService};
use tonic::{Request, Response, Status};

/// The gRPC side of `PriceBookService`.
pub struct PriceBooks(pub App);

#[tonic::async_trait]
impl PriceBookService for PriceBooks {
    async fn get_price_book(&self, request: Request<wire::GetPriceBookRequest>) -> Result<Response<wire::PriceBook>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::price_book::get(&self.0, &caller, request.into_inner()).await?))
    }

    async fn list_price_books(
        &self,
        request: Request<wire::ListPriceBooksRequest>,
    ) -> Result<Response<wire::ListPriceBooksResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::price_book::list(&self.0, &caller, request.into_inner()).await?))
    }

    async fn create_price_book(
        &self,
        request: Request<wire::CreatePriceBookRequest>,
    ) -> Result<Response<wire::PriceBook>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::price_book::create(&self.0, &caller, request.into_inner()).await?))
    }

    async fn update_price_book(
        &self,
        request: Request<wire::UpdatePriceBookRequest>,
    ) -> Result<Response<wire::PriceBook>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::price_book::update(&self.0, &caller, request.into_inner()).await?))
    }

    async fn delete_price_book(
        &self,
        request: Request<wire::DeletePriceBookRequest>,
    ) -> Result<Response<wire::DeletePriceBookResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(app::price_book::delete(&self.0, &caller, request.into_inner()).await?))
    }
}
