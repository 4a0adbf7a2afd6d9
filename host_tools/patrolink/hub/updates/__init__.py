"""Updates over the air: campaigns, their images, and the blocks that devices request."""
