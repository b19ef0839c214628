"""Published weights in and out, through one engine and a rule table for each system."""
