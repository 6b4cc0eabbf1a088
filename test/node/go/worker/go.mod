module eniboot/worker

go 1.23

require github.com/ishidawataru/sctp v0.0.0-20250521072954-ae8eb7fa7995
