"""What the pipeline does with a reservation in each status; `fulfillment.pipeline` says which is when."""
