/** Manifests as they lie in registries and buckets, each with the hash of its canonical bytes: what they mean must not change. */
export const storedManifests = [
  {
    version: "0.1.0, without options of the row's own",
    sha256: "8309b94c4fc36aec7653cc0785ed5ead800935bb7d926b15ebc587f379b0dea8",
    manifest: {
      manifest_version: 1,
      service_schema: "restaurant_service_456",
      service_name: "Restaurant Orders",
      revision: 3,
      activities_path: "./service/activities.ts",
      workflows: [
        {
          name: "processOrder",
          task_queue: "restaurant_service_456-tasks",
          workflows_path: "./service/workflows.ts",
          activities: ["validateOrder", "prepareFood", "deliverOrder"],
        },
        {
          name: "reserveTable",
          task_queue: "restaurant_service_456-tasks",
          workflows_path: "./service/workflows.ts",
          activities: ["findTable", "confirmReservation"],
        },
      ],
      options: {
        activity_endpoint: "https://default.example/ab/restaurant_service_456/{activity}",
        activity_timeout_seconds: 60,
      },
    },
  },
  {
    version: "0.1.0, with every option of its time",
    sha256: "4b8503d1a77cf499cc5b8574f877b6b198eed01058797a7b56499be352a6ce77",
    manifest: {
      manifest_version: 1,
      service_schema: "telecom_billing_service_789",
      service_name: "Telecom Billing System",
      revision: 3,
      activities_path: "./service/activities.ts",
      workflows: [
        {
          name: "processBilling",
          task_queue: "telecom_billing_service_789-tasks",
          workflows_path: "./service/workflows.ts",
          activities: ["calculateCharges", "sendInvoice"],
        },
        {
          name: "handlePayment",
          task_queue: "telecom_billing_service_789-tasks",
          workflows_path: "./service/workflows.ts",
          activities: ["validatePayment", "recordPayment"],
        },
      ],
      options: {
        activity_endpoint: "https://osp.example/telecom_billing_service_789/{activity}",
        activity_max_attempts: 5,
        activity_timeout_seconds: 300,
      },
    },
  },
];
